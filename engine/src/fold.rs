//! Tensors by name, and batch norms as a scale and a shift.

use crate::Error;
use crate::lanes::{Lanes, Layout, flush};

/// A tensor's shape and values.
type Tensor = (Vec<usize>, Vec<f32>);

/// Where the weights come from: a tensor by torchvision's name.
pub(crate) struct Source<'a>(pub(crate) &'a mut dyn FnMut(&str) -> Option<Tensor>);

impl Source<'_> {
    /// The values of a tensor of that shape.
    pub(crate) fn tensor(&mut self, name: &str, expected: &[usize]) -> Result<Vec<f32>, Error> {
        let (shape, values) = (self.0)(name).ok_or_else(|| Error::Missing(name.to_owned()))?;
        if shape != expected {
            return Err(Error::Shape { name: name.to_owned(), found: shape, expected: expected.to_vec() });
        }
        let needed = shape.iter().product();
        if values.len() != needed {
            return Err(Error::Values { name: name.to_owned(), shape, found: values.len(), expected: needed });
        }
        Ok(values)
    }

    /// The batch norm of that path over `channels` channels.
    pub(crate) fn norm(&mut self, path: &str, channels: usize, eps: f64) -> Result<Fold, Error> {
        let mut vector = |field| self.tensor(&format!("{path}.{field}"), &[channels]);
        let (weight, bias) = (vector("weight")?, vector("bias")?);
        let (mean, var) = (vector("running_mean")?, vector("running_var")?);
        let scale: Vec<f64> =
            weight.iter().zip(var).map(|(&w, var)| f64::from(w) / (f64::from(var) + eps).sqrt()).collect();
        let shifts =
            bias.iter().zip(mean).zip(&scale).map(|((&b, mean), scale)| f64::from(b) - f64::from(mean) * scale);
        let shift = shifts.collect();
        Ok(Fold { scale, shift })
    }
}

/// A batch norm in evaluation: `x * scale + shift` for each channel.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) scale: Vec<f64>,
    pub(crate) shift: Vec<f64>,
}

impl Fold {
    /// Rounded to f32 and put where a map has the channels. Lanes without a channel become zero.
    pub(crate) fn spread(&self, layout: &Layout) -> Norm {
        let spread = |values: &[f64]| layout.spread(values.iter().map(|&value| flush(value as f32)));
        Norm { scale: spread(&self.scale), shift: spread(&self.shift) }
    }
}

/// A batch norm that is applied while a map is read.
#[derive(Debug)]
pub(crate) struct Norm {
    /// For each channel block.
    pub(crate) scale: Vec<Lanes>,
    /// For each channel block.
    pub(crate) shift: Vec<Lanes>,
}
