"""Exports every ImageNet network with random weights to ONNX, and runs the exports elsewhere; `onnx.sh` calls it.

usage: run_onnx.py BINARY [NAME...]

onnx.checker looks at each model, ONNX Runtime and OpenVINO (told to compute in f32) run it on one random image, and
`densenet-zoo parity` compares their logits with its own. The largest differences are printed, absolute and as a share of
the largest logit. Ends with an error where ONNX Runtime's are more than 1e-5 of it away.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnx
import onnxruntime
import openvino
import torch
import torchvision
from safetensors.numpy import save_file

# Growth rate, blocks, stem: the table in arch/src/networks.rs.
NETWORKS = {
    "densenet-121": (32, (6, 12, 24, 16), 64),
    "densenet-169": (32, (6, 12, 32, 32), 64),
    "densenet-201": (32, (6, 12, 48, 32), 64),
    "densenet-161": (48, (6, 12, 36, 24), 96),
    "densenet-264": (32, (6, 12, 64, 48), 64),
    "densenet-232": (48, (6, 12, 48, 48), 96),
    "densenet-cosine-264": (32, (6, 12, 64, 48), 64),
    "densenet-cosine-264-k48": (48, (6, 12, 64, 48), 96),
}

binary = sys.argv[1]
names = sys.argv[2:] or NETWORKS


def ours(*arguments):
    return subprocess.run([binary, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def random_weights(growth, blocks, stem, seed):
    """He's convolutions, and batch norms that differ from one another, so that a swapped tensor shows."""
    torch.manual_seed(seed)
    network = torchvision.models.DenseNet(growth, blocks, stem)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def run_onnxruntime(path, image):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": image})[0]


def run_openvino(path, image):
    core = openvino.Core()
    model = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return model(image)[0]


def difference(model, image, output, folder):
    reference = f"{folder}/reference.safetensors"
    save_file({"input": image, "output": numpy.ascontiguousarray(output)}, reference)
    printed = ours("parity", model, "--reference", reference, "--device", "cpu", "--format", "json")
    found = json.loads(printed.stdout)
    return found["max_abs_difference"], found["relative_difference"]


print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}")
print("| network | export | ONNX Runtime | OpenVINO |")
print("|---|---|--:|--:|")
worst = 0
for seed, name in enumerate(names):
    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/{name}.safetensors"
        save_file(random_weights(*NETWORKS[name], seed), model)
        image = numpy.random.default_rng(seed).normal(size=(1, 3, 224, 224)).astype(numpy.float32)
        for export in ([], ["--fold"]):
            path = f"{folder}/{name}.onnx"
            done = ours("export", model, "-o", path, "--force", *export)
            if done.returncode != 0:
                sys.exit(done.stderr)
            onnx.checker.check_model(path, full_check=True)
            found = [difference(model, image, run(path, image), folder) for run in (run_onnxruntime, run_openvino)]
            cells = [f"{absolute:.1e} ({relative:.1e})" for absolute, relative in found]
            print(f"| {name} | {' '.join(export) or 'unfolded'} | {' | '.join(cells)} |", flush=True)
            worst = max(worst, found[0][1])
if worst > 1e-5:
    sys.exit(f"ONNX Runtime's logits are {worst:.1e} of the largest away")
