//! cuDNN: its handle, and how it computes a convolution of some sizes.
//!
//! Sums are f32. Where f32 is not rounded to TF32, algorithms that multiply the values themselves come first, and then those that
//! give the same bits each time; where one fails, the next is tried. How a shape is computed is looked up once.
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
use candle_core::{DType, Result};

use super::convolution::{Convolution, Way, channels_last};
use super::launch::Argument;

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Numbers {
    pub(super) dtype: DType,
    /// Whether f32 may be rounded to TF32.
    pub(super) tf32: bool,
}

impl Numbers {
    /// Products of f32 as they are.
    fn exact(self) -> bool {
        self.dtype == DType::F32 && !self.tf32
    }
}

/// cuDNN of one device and thread: its handle may not be shared.
#[derive(Debug)]
pub(super) struct Library {
    handle: sys::cudnnHandle_t,
    /// Keeps the device open.
    _stream: Arc<CudaStream>,
    plans: RefCell<HashMap<(Way, Convolution, Numbers), Rc<Plan>>>,
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
    pub(super) fn of(device: &CudaDevice) -> Result<Rc<Self>> {
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
    pub(super) fn plan(&self, way: Way, of: Convolution, numbers: Numbers) -> Result<Rc<Plan>> {
        let key = (way, of, numbers);
        let known = self.plans.borrow().get(&key).cloned();
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = Rc::new(Plan::new(self, way, of, numbers)?);
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

impl Algorithm {
    /// Whether it multiplies something else than the values themselves, whose rounding then shows in f32.
    fn transforms(self) -> bool {
        use sys::cudnnConvolutionFwdAlgo_t as Forward;
        use sys::{cudnnConvolutionBwdDataAlgo_t as Data, cudnnConvolutionBwdFilterAlgo_t as Filter};
        match self {
            Self::Forward(algorithm) => matches!(
                algorithm,
                Forward::CUDNN_CONVOLUTION_FWD_ALGO_FFT
                    | Forward::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING
                    | Forward::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD
                    | Forward::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED
            ),
            Self::ByInput(algorithm) => matches!(
                algorithm,
                Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT
                    | Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING
                    | Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD
                    | Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED
            ),
            Self::ByKernel(algorithm) => matches!(
                algorithm,
                Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT
                    | Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING
                    | Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD
                    | Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED
            ),
        }
    }
}

/// How a convolution of some sizes is computed.
#[derive(Debug)]
pub(super) struct Plan {
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
pub(super) struct Choice {
    algorithm: Algorithm,
    math: sys::cudnnMathType_t,
    steady: bool,
    /// Bytes.
    pub(super) workspace: usize,
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
    fn new(library: &Library, way: Way, of: Convolution, numbers: Numbers) -> Result<Self> {
        let dtype = numbers.dtype;
        let format = if channels_last(dtype) {
            sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC
        } else {
            sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW
        };
        let float = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        let data = match dtype {
            DType::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
            DType::BF16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
            _ => float,
        };
        // f32 is rounded to TF32 unless it is forbidden.
        let fma = sys::cudnnMathType_t::CUDNN_FMA_MATH;
        let math = if numbers.exact() { fma } else { sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH };
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
            let math = if numbers.exact() { fma } else { math };
            // One that cannot say what it needs does not run.
            if let Ok(workspace) = plan.workspace(library, algorithm, math) {
                plan.choices.push(Choice { algorithm, math, steady, workspace });
            }
        }
        // Among equals the faster one stays before the slower.
        plan.choices.sort_by_key(|Choice { algorithm, steady, workspace, .. }| {
            (*workspace > MOST_WORKSPACE, numbers.exact() && algorithm.transforms(), !steady)
        });
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

    /// How it is computed now.
    pub(super) fn choice(&self) -> Result<Choice> {
        let none = || CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED);
        Ok(self.choices.get(self.taken.get()).copied().ok_or_else(none)?)
    }

    /// Takes the next choice from now on, if there is one.
    pub(super) fn try_next(&self) -> bool {
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
    pub(super) unsafe fn launch(
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
