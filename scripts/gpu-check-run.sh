#!/usr/bin/env bash
# Runs what gpu-check.sh packed. usage: run.sh [PYTHON]      PYTHON may have torch and torchvision
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
device=$(cat "$here/device")

# For torch and cuDNN: f32 is f32.
export NVIDIA_TF32_OVERRIDE=0
DENSENET_ZOO_TEST_DEVICE=$device CARGO_MANIFEST_DIR=$here "$here/bin/tests" device::
PYTHONDONTWRITEBYTECODE=1 "${1:-python3}" "$here/gpu.py" "$here/bin/densenet-zoo" "$device"
