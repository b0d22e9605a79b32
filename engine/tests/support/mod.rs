//! Made-up weights and inputs.

use densenet_arch::{Config, Role};

/// Numbers between -1 and 1, the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            // Knuth's MMIX generator; the upper bits are the good ones.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }
}

/// Weights under which the maps keep their size: convolutions by He et al., variances around 1.
pub(crate) fn weights(config: &Config) -> impl Fn(&str) -> Option<(Vec<usize>, Vec<f32>)> {
    let params = config.params();
    move |name| {
        let index = params.iter().position(|param| param.name == name)?;
        let param = &params[index];
        let fan_in: usize = param.shape[1..].iter().product();
        let he = (6.0 / fan_in as f32).sqrt();
        let (scale, shift) = match param.role {
            Role::ConvWeight => (he, 0.0),
            Role::LinearWeight => (he / 2.0, 0.0),
            Role::NormWeight | Role::RunningVar => (0.5, 1.0),
            _ => (0.1, 0.0),
        };
        let numbers = Numbers::new(index as u64).take(param.elements());
        Some((param.shape.clone(), numbers.into_iter().map(|number| number * scale + shift).collect()))
    }
}
