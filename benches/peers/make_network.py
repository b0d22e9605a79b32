"""Makes a network with random weights and sane statistics: network.onnx, network.safetensors, and an image.png of its size.

usage: make_network.py NETWORK FOLDER      torchvision's name, densenet264, or densenet-bc-100-12 (CIFAR's)
"""

import json
import sys
import warnings
from pathlib import Path

import numpy
import torch
from networks import network as make
from PIL import Image
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
name, folder = sys.argv[1], Path(sys.argv[2])
side = 32 if name.startswith("densenet-bc") else 224
torch.manual_seed(0)
network = make(name).train()
with torch.no_grad():
    # Two batches of noise, averaged, so that activations neither explode nor vanish.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    for _ in range(2):
        network(torch.randn(8, 3, side, side))
network.eval()
save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "network.safetensors")
torch.onnx.export(
    network, torch.randn(1, 3, side, side), folder / "network.onnx", opset_version=17, input_names=["x"], output_names=["y"],
    dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, dynamo=False,
)
Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=numpy.uint8)).save(folder / "image.png")
(folder / "network.json").write_text(json.dumps({"name": name, "side": side}))
