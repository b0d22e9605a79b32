//! Which instruction set the kernels are made of.

use std::fmt;

use crate::Error;
use crate::kernels::Backend;

/// A set of kernels. All give the same results up to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, for any processor.
    Portable,
    /// 256-bit vectors and fused multiply-add (x86-64).
    Avx2,
    /// 512-bit vectors (x86-64).
    Avx512,
    /// 128-bit vectors, 32 of them (aarch64).
    Neon,
}

impl Isa {
    /// The environment variable that forces one.
    pub const VARIABLE: &'static str = "DENSENET_ZOO_ISA";

    /// All of them, each processor's fastest last.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Neon];

    /// The name that the variable takes: `portable`, `avx2`, `avx512`, `neon`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// Those that this processor can run, the fastest last.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.backend().is_some())
    }

    /// Floating-point operations a second that one thread reaches with this set's fused multiply-adds in registers alone,
    /// measured now, in some hundredths of a second: what no kernel exceeds. `None` if the processor lacks the set.
    pub fn measure_peak(self) -> Option<f64> {
        self.backend().map(Backend::peak)
    }

    /// The kernels of that set; of none: of what the variable asks for.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownIsa`] for a variable that holds no name, [`Error::Unsupported`] if the processor lacks the set.
    pub(crate) fn backend_of(isa: Option<Self>) -> Result<Backend, Error> {
        let asked = || std::env::var_os(Self::VARIABLE).map(|value| value.to_string_lossy().into_owned());
        let isa = isa.map_or_else(|| Self::choose(asked().as_deref()), Ok)?;
        isa.backend().ok_or(Error::Unsupported(isa))
    }

    /// What the variable's value asks for; without one, the fastest that this processor can run.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownIsa`] for a value that is no name.
    pub(crate) fn choose(value: Option<&str>) -> Result<Self, Error> {
        match value {
            None | Some("") => Ok(Self::available().last().unwrap_or(Self::Portable)),
            Some(name) => {
                Self::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| Error::UnknownIsa(name.to_owned()))
            }
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_forces_one_and_others_are_refused() {
        assert_eq!(Isa::choose(Some("portable")).unwrap(), Isa::Portable);
        assert_eq!(Isa::choose(Some("avx512")).unwrap(), Isa::Avx512);
        assert_eq!(
            Isa::choose(Some("sse9")).unwrap_err().to_string(),
            "DENSENET_ZOO_ISA is \"sse9\"; it may be portable, avx2, avx512 or neon"
        );
        assert!(Isa::available().any(|isa| isa == Isa::choose(None).unwrap()));
    }
}
