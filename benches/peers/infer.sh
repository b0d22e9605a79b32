#!/usr/bin/env bash
# How fast densenet-zoo, ONNX Runtime, OpenVINO and torch run the same DenseNet on the CPU, by turns.
# usage: infer.sh VENV [NETWORK [ZOO_BINARY]]    VENV as `setup.sh` makes it; build with `cargo build --release` first.
# NETWORK is torchvision's name, densenet121 unless given. The files go to a new folder under $TMPDIR, removed at the end.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:?usage: infer.sh VENV [NETWORK [ZOO_BINARY]]}
network=${2:-densenet121}
binary=${3:-$here/../../target/release/densenet-zoo}
folder=$(mktemp -d)
export PYTHONDONTWRITEBYTECODE=1
trap 'rm -rf "$folder"' EXIT

"$venv/bin/python" "$here/make_network.py" "$network" "$folder" >/dev/null
"$venv/bin/python" "$here/infer.py" "$binary" "$folder"
