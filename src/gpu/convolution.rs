//! Convolutions by cuDNN, forward and the two ways back.
//!
//! Maps lie as cuDNN is fastest with them: of half types the channels of a pixel side by side (NHWC), for the tensor cores; of f32
//! a channel's plane as a whole (NCHW). Sums are f32, and f32 is never rounded to TF32. How a shape is computed is looked up once.
//! Of the algorithms those come first that give the same bits each time; where one fails, the next is tried.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::rc::Rc;
use std::sync::Arc;

use candle_core::cuda::cudarc::cudnn::result::CudnnError;
use candle_core::cuda::cudarc::cudnn::{result, sys};
use candle_core::cuda::cudarc::driver::CudaStream;
use candle_core::cuda::{CudaDevice, DeviceId};
use candle_core::{DType, Result, Tensor};

use super::launch::{Argument, card, empty, pointer};

/// Of the maps' type: whether the channels of a pixel lie side by side.
pub(crate) fn channels_last(dtype: DType) -> bool {
    dtype != DType::F32
}

/// A convolution over (B, C, H, W) by (O, C, side, side); its sizes by their names, however they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Convolution {
    pub(crate) x: [usize; 4],
    pub(crate) kernel: [usize; 4],
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Convolution {
    /// Of x and kernel to y. All lie as [`channels_last`] says: (B, C, H, W) or (B, H, W, C), and (O, C, side, side) or
    /// (O, side, side, C).
    pub(crate) fn forward(self, x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        self.run(Way::Forward, x, kernel)
    }

    /// Of the kernel and the gradient by y to that by x.
    pub(crate) fn by_input(self, kernel: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.run(Way::ByInput, kernel, gradient)
    }

    /// Of x and the gradient by y to that by the kernel.
    pub(crate) fn by_kernel(self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.run(Way::ByKernel, x, gradient)
    }

    fn run(self, way: Way, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let (dtype, device) = (a.dtype(), a.device());
        let (x, kernel, y) = (self.x, self.kernel, self.y());
        let (first, second, out) = match way {
            Way::Forward => (x, kernel, y),
            Way::ByInput => (kernel, y, x),
            Way::ByKernel => (x, y, kernel),
        };
        for (tensor, expected) in [(&a, first), (&b, second)] {
            let expected = stored(expected, channels_last(dtype));
            if tensor.dims() != expected {
                candle_core::bail!("{:?} instead of {expected:?} for {self:?}", tensor.dims());
            }
        }
        let out = empty(stored(out, channels_last(dtype)).to_vec(), dtype, device)?;
        let pointers = [pointer(&a, dtype)?, pointer(&b, dtype)?, pointer(&out, dtype)?];
        let library = Library::of(card(device)?)?;
        let plan = library.plan(way, self, dtype)?;
        loop {
            let choice = plan.choice()?;
            let workspace = empty(choice.workspace.div_ceil(4).max(1), DType::F32, device)?;
            // SAFETY: the descriptors are of the sizes that were checked above, all is of this device and contiguous, and its
            // stream frees what is dropped behind what is launched here.
            match unsafe { plan.launch(&library, choice, pointers, pointer(&workspace, DType::F32)?) } {
                Ok(()) => return Ok(out),
                // It was offered, and yet may not run.
                Err(_) if plan.try_next() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// (B, O, rows, columns)
    pub(crate) fn y(self) -> [usize; 4] {
        let along = |pixels: usize| (pixels + 2 * self.padding - self.kernel[2]) / self.stride + 1;
        [self.x[0], self.kernel[0], along(self.x[2]), along(self.x[3])]
    }
}

/// Sizes (a, b, c, d) as they lie in memory.
fn stored([a, b, c, d]: [usize; 4], last: bool) -> [usize; 4] {
    if last { [a, c, d, b] } else { [a, b, c, d] }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    Forward,
    ByInput,
    ByKernel,
}

/// cuDNN of one device and thread: its handle may not be shared.
#[derive(Debug)]
struct Library {
    handle: sys::cudnnHandle_t,
    /// Keeps the device open.
    _stream: Arc<CudaStream>,
    plans: RefCell<HashMap<(Way, Convolution, DType), Rc<Plan>>>,
}

impl Drop for Library {
    fn drop(&mut self) {
        self.plans.borrow_mut().clear();
        // SAFETY: nothing else has this handle. Where it fails, the process ends without it.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

thread_local! {
    static LIBRARIES: RefCell<HashMap<DeviceId, Rc<Library>>> = RefCell::default();
}

impl Library {
    fn of(device: &CudaDevice) -> Result<Rc<Self>> {
        let known = LIBRARIES.with_borrow(|libraries| libraries.get(&device.id()).cloned());
        if let Some(library) = known {
            return Ok(library);
        }
        let (handle, stream) = (result::create_handle()?, device.cuda_stream());
        let library = Rc::new(Self { handle, _stream: stream.clone(), plans: RefCell::default() });
        // SAFETY: the handle is new, and the library keeps its stream.
        unsafe { result::set_stream(handle, stream.cu_stream().cast())? };
        LIBRARIES.with_borrow_mut(|libraries| libraries.insert(device.id(), library.clone()));
        Ok(library)
    }

    /// How such a convolution is computed.
    fn plan(&self, way: Way, of: Convolution, dtype: DType) -> Result<Rc<Plan>> {
        let key = (way, of, dtype);
        let known = self.plans.borrow().get(&key).cloned();
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = Rc::new(Plan::new(self, way, of, dtype)?);
        self.plans.borrow_mut().insert(key, plan.clone());
        Ok(plan)
    }
}

/// A descriptor of cuDNN.
macro_rules! descriptors {
    ($($name:ident $create:ident $destroy:ident $sys:ident)*) => {$(
        #[derive(Debug)]
        struct $name(sys::$sys);

        impl $name {
            fn new() -> Result<Self> {
                Ok(Self(result::$create()?))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: nothing else has it.
                let _ = unsafe { result::$destroy(self.0) };
            }
        }
    )*};
}
descriptors! {
    Map create_tensor_descriptor destroy_tensor_descriptor cudnnTensorDescriptor_t
    Kernel create_filter_descriptor destroy_filter_descriptor cudnnFilterDescriptor_t
    By create_convolution_descriptor destroy_convolution_descriptor cudnnConvolutionDescriptor_t
}

#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    ByInput(sys::cudnnConvolutionBwdDataAlgo_t),
    ByKernel(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// How a convolution of some sizes is computed.
#[derive(Debug)]
struct Plan {
    x: Map,
    kernel: Kernel,
    by: By,
    y: Map,
    /// The best first.
    choices: Vec<Choice>,
    /// The one that is taken; those before it have failed.
    taken: Cell<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Choice {
    algorithm: Algorithm,
    math: sys::cudnnMathType_t,
    steady: bool,
    /// Bytes.
    workspace: usize,
}

/// Algorithms that want more are taken only where there is no other, 1 GiB.
const MOST_WORKSPACE: usize = 1 << 30;

/// The most algorithms that any of the three ways has.
const ALGORITHMS: usize = 8;

/// An algorithm that cuDNN names, fastest first by its heuristics.
struct Candidate {
    algorithm: Algorithm,
    runs: bool,
    /// Whether it gives the same bits each time.
    steady: bool,
    math: sys::cudnnMathType_t,
}

/// Asks cuDNN for the algorithms of a way.
macro_rules! candidates {
    ($way:ident $ask:ident of $found:ident: $($argument:expr),*) => {{
        let mut count: c_int = 0;
        // SAFETY: numbers and the numbers of enums' first variants.
        let mut found: [sys::$found; ALGORITHMS] = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptors are whole, and there is room for that many.
        unsafe { result::$ask($($argument,)* ALGORITHMS as c_int, &raw mut count, found.as_mut_ptr())? };
        let candidates = found.into_iter().take(count as usize).map(|found| Candidate {
            algorithm: Algorithm::$way(found.algo),
            runs: found.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS,
            steady: found.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
            math: found.mathType,
        });
        candidates.collect::<Vec<_>>()
    }};
}

impl Plan {
    fn new(library: &Library, way: Way, of: Convolution, dtype: DType) -> Result<Self> {
        let format = if channels_last(dtype) {
            sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC
        } else {
            sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW
        };
        let float = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        // f32 may be rounded to TF32 unless it is forbidden.
        let (data, math) = match dtype {
            DType::F16 => (sys::cudnnDataType_t::CUDNN_DATA_HALF, sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH),
            DType::BF16 => (sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16, sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH),
            _ => (float, sys::cudnnMathType_t::CUDNN_FMA_MATH),
        };
        let sizes = |sizes: [usize; 4]| sizes.map(|size| size as c_int);
        let (stride, padding) = (of.stride as c_int, of.padding as c_int);
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let (x, kernel, by, y) = (Map::new()?, Kernel::new()?, By::new()?, Map::new()?);
        // SAFETY: the descriptors are new.
        unsafe {
            result::set_tensor4d_descriptor(x.0, format, data, sizes(of.x))?;
            result::set_filter4d_descriptor(kernel.0, data, format, sizes(of.kernel))?;
            result::set_convolution2d_descriptor(by.0, padding, padding, stride, stride, 1, 1, mode, float)?;
            result::set_convolution_math_type(by.0, math)?;
            result::set_tensor4d_descriptor(y.0, format, data, sizes(of.y()))?;
        }
        let handle = library.handle;
        let mut candidates = match way {
            Way::Forward => candidates!(
                Forward get_convolution_forward_algorithm of cudnnConvolutionFwdAlgoPerf_t:
                handle, x.0, kernel.0, by.0, y.0
            ),
            Way::ByInput => candidates!(
                ByInput get_convolution_backward_data_algorithm of cudnnConvolutionBwdDataAlgoPerf_t:
                handle, kernel.0, y.0, by.0, x.0
            ),
            Way::ByKernel => candidates!(
                ByKernel get_convolution_backward_filter_algorithm of cudnnConvolutionBwdFilterAlgoPerf_t:
                handle, x.0, y.0, by.0, kernel.0
            ),
        };
        candidates.retain(|candidate| candidate.runs);
        let mut plan = Self { x, kernel, by, y, choices: Vec::new(), taken: Cell::new(0) };
        for Candidate { algorithm, steady, math, .. } in candidates {
            let math = if channels_last(dtype) { math } else { sys::cudnnMathType_t::CUDNN_FMA_MATH };
            // One that cannot say what it needs does not run.
            if let Ok(workspace) = plan.workspace(library, algorithm, math) {
                plan.choices.push(Choice { algorithm, math, steady, workspace });
            }
        }
        // Among equals the faster one stays before the slower.
        plan.choices.sort_by_key(|choice| (choice.workspace > MOST_WORKSPACE, !choice.steady));
        Ok(plan)
    }

    /// Bytes that an algorithm works in.
    fn workspace(
        &self,
        library: &Library,
        algorithm: Algorithm,
        math: sys::cudnnMathType_t,
    ) -> std::result::Result<usize, CudnnError> {
        let Self { x: Map(x), kernel: Kernel(kernel), by: By(by), y: Map(y), .. } = *self;
        let handle = library.handle;
        // SAFETY: the descriptors are whole.
        unsafe {
            result::set_convolution_math_type(by, math)?;
            match algorithm {
                Algorithm::Forward(algorithm) => {
                    result::get_convolution_forward_workspace_size(handle, x, kernel, by, y, algorithm)
                }
                Algorithm::ByInput(algorithm) => {
                    result::get_convolution_backward_data_workspace_size(handle, kernel, y, by, x, algorithm)
                }
                Algorithm::ByKernel(algorithm) => {
                    result::get_convolution_backward_filter_workspace_size(handle, x, y, by, kernel, algorithm)
                }
            }
        }
    }

    fn choice(&self) -> Result<Choice> {
        let none = || CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED);
        Ok(self.choices.get(self.taken.get()).copied().ok_or_else(none)?)
    }

    /// Takes the next choice from now on, if there is one.
    fn try_next(&self) -> bool {
        let next = self.taken.get() + 1;
        let known = next < self.choices.len();
        if known {
            self.taken.set(next);
        }
        known
    }

    /// # Safety
    ///
    /// The pointers are of what the way reads, two, and writes, of its sizes and on the library's device; the workspace is of as
    /// many bytes as the choice wants.
    unsafe fn launch(
        &self,
        library: &Library,
        choice: Choice,
        pointers: [Argument; 3],
        workspace: Argument,
    ) -> std::result::Result<(), CudnnError> {
        let Self { x: Map(x), kernel: Kernel(kernel), by: By(by), y: Map(y), .. } = *self;
        let [a, b, out] = pointers.map(Argument::address);
        let (handle, bytes, workspace) = (library.handle, choice.workspace, workspace.address());
        let (one, zero) = (1.0_f32, 0.0_f32);
        let (one, zero): (*const c_void, *const c_void) = ((&raw const one).cast(), (&raw const zero).cast());
        // SAFETY: what the caller grants; the factors of f32 and half types are f32.
        unsafe {
            result::set_convolution_math_type(by, choice.math)?;
            match choice.algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    handle, one, x, a, kernel, b, by, algorithm, workspace, bytes, zero, y, out,
                ),
                Algorithm::ByInput(algorithm) => result::convolution_backward_data(
                    handle, one, kernel, a, y, b, by, algorithm, workspace, bytes, zero, x, out,
                ),
                Algorithm::ByKernel(algorithm) => result::convolution_backward_filter(
                    handle, one, x, a, y, b, by, algorithm, workspace, bytes, zero, kernel, out,
                ),
            }
        }
    }
}
