"""Makes a network of torchvision's with random weights and sane statistics: network.onnx and network.safetensors.

usage: make_network.py NETWORK FOLDER
"""

import sys
import warnings
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
name, folder = sys.argv[1], Path(sys.argv[2])
torch.manual_seed(0)
network = torchvision.models.get_model(name, weights=None).train()
with torch.no_grad():
    # Two batches of noise, averaged, so that activations neither explode nor vanish.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    for _ in range(2):
        network(torch.randn(8, 3, 224, 224))
network.eval()
save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "network.safetensors")
torch.onnx.export(
    network, torch.randn(1, 3, 224, 224), folder / "network.onnx", opset_version=17, input_names=["x"], output_names=["y"],
    dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, dynamo=False,
)
(folder / "name").write_text(name)
