//! The names that a checkpoint may use, and what they mean here.

use crate::tensor::DType;

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    OrderedDict,
    Set,
    Storage(DType),
    /// Becomes its arguments: a size, a dtype, options.
    Plain,
}

/// The names that a checkpoint may use.
pub(super) const GLOBALS: [(&str, Global); 30] = [
    ("torch._utils._rebuild_tensor", Global::RebuildTensor),
    ("torch._utils._rebuild_tensor_v2", Global::RebuildTensorV2),
    ("torch._utils._rebuild_parameter", Global::RebuildParameter),
    ("collections.OrderedDict", Global::OrderedDict),
    ("collections.defaultdict", Global::OrderedDict),
    ("builtins.set", Global::Set),
    ("__builtin__.set", Global::Set),
    ("builtins.dict", Global::Plain),
    ("builtins.list", Global::Plain),
    ("torch.DoubleStorage", Global::Storage(DType::F64)),
    ("torch.FloatStorage", Global::Storage(DType::F32)),
    ("torch.HalfStorage", Global::Storage(DType::F16)),
    ("torch.BFloat16Storage", Global::Storage(DType::BF16)),
    ("torch.LongStorage", Global::Storage(DType::I64)),
    ("torch.IntStorage", Global::Storage(DType::I32)),
    ("torch.ShortStorage", Global::Storage(DType::I16)),
    ("torch.CharStorage", Global::Storage(DType::I8)),
    ("torch.ByteStorage", Global::Storage(DType::U8)),
    ("torch.BoolStorage", Global::Storage(DType::Bool)),
    ("torch.Size", Global::Plain),
    ("torch.device", Global::Plain),
    ("torch.float32", Global::Plain),
    ("torch.float64", Global::Plain),
    ("torch.float16", Global::Plain),
    ("torch.bfloat16", Global::Plain),
    ("torch.int64", Global::Plain),
    ("argparse.Namespace", Global::Plain),
    ("copy_reg._reconstructor", Global::Plain),
    ("_codecs.encode", Global::Plain),
    ("builtins.object", Global::Plain),
];
