#!/usr/bin/env bash
# Runs what gpu-check.sh packed. usage: run.sh [PYTHON]      PYTHON may have torch and torchvision
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
device=$(cat "$here/device")
python=${1:-python3}

# CUDA's libraries that came with a torch from pip, for a machine that has no others, and where containers have the driver's.
found=$("$python" -c 'import glob, sys; print(":".join(sorted({path.rsplit("/", 1)[0] for root in sys.path
    for path in glob.glob(root + "/nvidia/*/lib/lib*.so*")})))' 2>/dev/null || true)
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$found:/usr/local/cuda/lib64:/usr/local/nvidia/lib64
if missing=$(ldd "$here/bin/densenet-zoo" | grep "not found"); then
    printf 'these libraries of the driver or of CUDA 13 are not here (cuDNN is in no pack of gpu-check.sh PACK cuda):\n%s\n' "$missing" >&2
    exit 1
fi

# A failed test is told at the end, behind the figures. candle's own convolutions, which some tests compare with, would round f32.
failed=0
NVIDIA_TF32_OVERRIDE=0 DENSENET_ZOO_TEST_DEVICE=$device CARGO_MANIFEST_DIR=$here "$here/bin/tests" device:: || failed=$?
PYTHONDONTWRITEBYTECODE=1 "$python" "$here/gpu.py" "$here/bin/densenet-zoo" "$device"
exit "$failed"
