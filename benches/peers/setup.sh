#!/usr/bin/env bash
# Makes the Python environment that the scripts here compare with.
# usage: setup.sh VENV      (5.5 GB on Linux, whose torch brings CUDA along; nothing here uses it)
set -euo pipefail

venv=${1:?usage: setup.sh VENV}
[ -d "$venv" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch torchvision safetensors numpy pillow onnx onnxruntime openvino
"$venv/bin/python" -c 'import safetensors, torch, torchvision; print("torch", torch.__version__, "torchvision", torchvision.__version__, "safetensors", safetensors.__version__)'
