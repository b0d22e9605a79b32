"""A DenseNet state dict as a Torch7 file: the modules that the original code builds, with the fields that evaluation needs."""

import itertools
import struct

NIL, NUMBER, TEXT, TABLE, OBJECT, BOOLEAN = range(6)


class Object:
    def __init__(self, kind, **fields):
        self.kind, self.fields = kind, fields


def module(kind, *children, **fields):
    if children:
        fields["modules"] = list(children)
    return Object(kind, train=False, **fields)


def network(weights, blocks):
    """nn.Sequential of stem, blocks, transitions and classifier; `weights` has torchvision's names."""

    def convolution(name, stride=1, padding=0):
        weight = weights[f"{name}.weight"]
        planes, inputs, height, width = weight.shape
        return module(
            "cudnn.SpatialConvolution", weight=weight, nInputPlane=inputs, nOutputPlane=planes, kW=width, kH=height,
            dW=stride, dH=stride, padW=padding, padH=padding, groups=1,
        )  # fmt: skip

    def norm_relu(name):
        fields = {field: weights[f"{name}.{field}"] for field in ("weight", "bias", "running_mean", "running_var")}
        return [module("cudnn.SpatialBatchNormalization", eps=1e-5, momentum=0.1, affine=True, **fields), module("cudnn.ReLU")]

    def pool(kind, size, stride, padding=0):
        return module(kind, kW=size, kH=size, dW=stride, dH=stride, padW=padding, padH=padding, ceil_mode=False)

    modules = [convolution("features.conv0", 2, 3), *norm_relu("features.norm0"), pool("cudnn.SpatialMaxPooling", 3, 2, 1)]
    for block, layers in enumerate(blocks, 1):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            grow = [*norm_relu(f"{name}.norm1"), convolution(f"{name}.conv1"), *norm_relu(f"{name}.norm2"), convolution(f"{name}.conv2", 1, 1)]
            modules.append(module("nn.Concat", module("nn.Identity"), module("nn.Sequential", *grow), dimension=2))
        if block < len(blocks):
            name = f"features.transition{block}"
            modules += [*norm_relu(f"{name}.norm"), convolution(f"{name}.conv"), pool("cudnn.SpatialAveragePooling", 2, 2)]
    classifier = module("nn.Linear", weight=weights["classifier.weight"], bias=weights["classifier.bias"])
    modules += [*norm_relu("features.norm5"), pool("cudnn.SpatialAveragePooling", 7, 7), module("nn.Reshape"), classifier]
    return module("nn.Sequential", *modules)


def write(value, out):
    """Binary, little-endian, 64-bit longs. Every table and object gets an index of its own; tensors are float32."""
    index = itertools.count(1)

    def text(string):
        out.write(struct.pack("<i", len(string)) + string.encode())

    def header(kind):
        out.write(struct.pack("<ii", OBJECT, next(index)))
        text("V 1")
        text(kind)

    def table(pairs):
        out.write(struct.pack("<iii", TABLE, next(index), len(pairs)))
        for key, item in pairs:
            put(key)
            put(item)

    def put(item):
        if isinstance(item, bool):
            out.write(struct.pack("<ii", BOOLEAN, item))
        elif isinstance(item, (int, float)):
            out.write(struct.pack("<id", NUMBER, item))
        elif isinstance(item, str):
            out.write(struct.pack("<i", TEXT))
            text(item)
        elif isinstance(item, list):
            table(list(enumerate(item, 1)))
        elif isinstance(item, Object):
            header(item.kind)
            table(list(item.fields.items()))
        else:
            array = item.numpy()
            strides = [stride // array.itemsize for stride in array.strides]
            header("torch.FloatTensor")
            out.write(struct.pack(f"<i{2 * array.ndim + 1}q", array.ndim, *array.shape, *strides, 1))
            header("torch.FloatStorage")
            out.write(struct.pack("<q", array.size) + array.tobytes())

    put(value)
