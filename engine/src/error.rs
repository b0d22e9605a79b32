//! What can go wrong.

use densenet_arch::ConfigError;
use thiserror::Error;

use crate::Isa;

/// Why a plan, a session or a trainer cannot be made, or an input not be run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Sizes that no network can have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A tensor of the network is not among the weights.
    #[error("tensor {0:?} is missing from the weights")]
    Missing(String),
    /// A tensor has another shape than the network's.
    #[error("tensor {name:?} has shape {found:?}, the network needs {expected:?}")]
    Shape {
        /// The tensor, torchvision's name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The network's.
        expected: Vec<usize>,
    },
    /// A tensor's values are more or fewer than its shape says.
    #[error("tensor {name:?} has {found} values where its shape {shape:?} needs {expected}")]
    Values {
        /// The tensor, torchvision's name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values given.
        found: usize,
        /// Values that the shape needs.
        expected: usize,
    },
    /// `DENSENET_ZOO_ISA` holds no instruction set's name.
    #[error("DENSENET_ZOO_ISA is {0:?}; it may be portable, avx2, avx512 or neon")]
    UnknownIsa(String),
    /// The processor lacks the instruction set asked for.
    #[error("this processor cannot run the {0} kernels; leave the choice open or take portable")]
    Unsupported(Isa),
    /// The processor lacks products in bf16, or the instruction set asked for has none.
    #[error("the {0} kernels cannot multiply in bf16 here, which needs AVX512_BF16; take f32")]
    NoBf16(Isa),
    /// An image so small that a map of the network would be empty, or too large to plan for.
    #[error("an input of {height}x{width} pixels does not fit the network; sides may be from {least} to {most}")]
    InputSize {
        /// Pixels.
        height: usize,
        /// Pixels.
        width: usize,
        /// The smallest side that this network accepts.
        least: usize,
        /// The largest side.
        most: usize,
    },
    /// A session for no image or by no thread, or for too many.
    #[error("{field} is {value}; it must be from 1 to {most}")]
    Count {
        /// `batch` or `threads`.
        field: &'static str,
        /// What was asked for.
        value: usize,
        /// The most that a session takes.
        most: usize,
    },
    /// An input that is not a whole number of images, or of more than the session has room for.
    #[error("the input has {found} values; an image has {image}, and the session takes 1 to {batch} images")]
    InputLength {
        /// Values given.
        found: usize,
        /// Values of one image.
        image: usize,
        /// Images that the session has room for.
        batch: usize,
    },
    /// The buffers do not fit into memory.
    #[error("{bytes} bytes of memory for a buffer are not to be had; take smaller images, batches or fewer threads")]
    Memory {
        /// Size of the buffer that failed.
        bytes: usize,
    },
    /// A thread panicked, which is a fault of this program; what it said is on stderr. A session is of no more use, a
    /// trainer has the weights from before the step.
    #[error("a thread of the engine panicked, and its message is above; please report it")]
    Panicked,
    /// The system started no thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// An option of a trainer out of its range.
    #[error("{field} is {value}; it must be {must}")]
    Setting {
        /// A field of [`train::Options`](crate::train::Options) or of the network's sizes.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        must: &'static str,
    },
    /// A batch whose labels are not as many as its images.
    #[error("{found} labels for {images} images")]
    Labels {
        /// Labels given.
        found: usize,
        /// Images given.
        images: usize,
    },
    /// A label that is no class.
    #[error("label {label} is none of the network's {classes} classes, which count from 0")]
    Label {
        /// What was given.
        label: usize,
        /// The network's classes.
        classes: usize,
    },
    /// Findings that are not one for each image and class.
    #[error("{found} findings for {images} images of {classes} classes")]
    Findings {
        /// Findings given.
        found: usize,
        /// Images given.
        images: usize,
        /// The network's classes.
        classes: usize,
    },
    /// A finding that is no probability.
    #[error(
        "the finding of image {image}, class {class} is {value}; it must be from 0, absent, to 1, present, or NaN where it \
         is not known"
    )]
    Finding {
        /// What was given.
        value: f32,
        /// Its place in the batch, from 0.
        image: usize,
        /// From 0.
        class: usize,
    },
    /// A batch of one image whose last map is one pixel: a batch norm would see one value a channel.
    #[error(
        "batch norm needs more than one value a channel; take batches that leave no single image over, or larger images"
    )]
    FewValues,
    /// The loss or the gradient is infinite or no number. The weights are those before the step.
    #[error("the {0} is not finite; the weights are unchanged. Take a lower learning rate, or look for bad inputs")]
    Diverged(&'static str),
}
