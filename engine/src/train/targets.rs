//! What is to be learned of a batch.

use super::Options;
use super::loss::Loss;
use crate::Error;

/// What a batch's images show, and with it the loss.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// One class an image, from 0. The loss is softmax cross-entropy.
    Labels(&'a [usize]),
    /// Any number of classes an image, (n, classes): 1 present, 0 absent, between them how likely, NaN not known. The loss
    /// is binary cross-entropy over the logits, the mean over what is known; where nothing is, loss and gradient are 0.
    Findings(&'a [f32]),
}

impl Targets<'_> {
    /// The loss of logits (n, classes), with the options' label smoothing and class weights, and its gradient in their place.
    ///
    /// # Errors
    ///
    /// Targets that do not fit that many images, and a loss that is not finite ([`Error::Diverged`]).
    pub fn loss(self, logits: &mut [f32], images: usize, options: &Options) -> Result<f64, Error> {
        let classes = logits.len().checked_div(images).unwrap_or_default();
        self.check(images, classes)?;
        let class_weights = options.class_weights.as_deref();
        let loss = Loss { classes, class_weights, smoothing: options.label_smoothing }.of(logits, self);
        if loss.is_finite() { Ok(loss) } else { Err(Error::Diverged("loss")) }
    }

    /// Refuses targets that do not fit that many images and classes.
    pub(crate) fn check(self, images: usize, classes: usize) -> Result<(), Error> {
        match self {
            Self::Labels(labels) if labels.len() != images => Err(Error::Labels { found: labels.len(), images }),
            Self::Labels(labels) => match labels.iter().find(|&&label| label >= classes) {
                Some(&label) => Err(Error::Label { label, classes }),
                None => Ok(()),
            },
            Self::Findings(findings) if findings.len() != images * classes => {
                Err(Error::Findings { found: findings.len(), images, classes })
            }
            Self::Findings(findings) => {
                match findings.iter().position(|value| !(value.is_nan() || (0.0..=1.0).contains(value))) {
                    Some(at) => Err(Error::Finding { value: findings[at], image: at / classes, class: at % classes }),
                    None => Ok(()),
                }
            }
        }
    }
}
