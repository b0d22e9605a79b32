#!/usr/bin/env bash
# Every ImageNet network with random weights, exported to ONNX and run by ONNX Runtime and OpenVINO.
# usage: onnx.sh VENV [NAME...]
set -euo pipefail
venv=${1:?usage: onnx.sh VENV [NAME...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
exec "$venv/bin/python" "$here/run_onnx.py" "$target/release/densenet-zoo" "$@"
