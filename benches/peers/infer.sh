#!/usr/bin/env bash
# How fast densenet-zoo, ONNX Runtime, OpenVINO and torch run the same DenseNet on the CPU, by turns; some minutes a table.
# usage: infer.sh VENV [NETWORK [f32|bf16|avx2 [ROUNDS [SECONDS [ZOO_BINARY]]]]]
# VENV as `setup.sh` makes it; build with `cargo build --release` first. NETWORK is torchvision's name, densenet264 or
# densenet-bc-100-12; densenet121 unless given. The files go to a new folder under $TMPDIR, removed at the end.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:?usage: infer.sh VENV [NETWORK [f32|bf16|avx2 [ROUNDS [SECONDS [ZOO_BINARY]]]]]}
network=${2:-densenet121}
table=${3:-f32}
rounds=${4:-3}
seconds=${5:-2}
binary=${6:-$here/../../target/release/densenet-zoo}
folder=$(mktemp -d)
export PYTHONDONTWRITEBYTECODE=1
trap 'rm -rf "$folder"' EXIT

"$venv/bin/python" "$here/make_network.py" "$network" "$folder" >/dev/null
"$venv/bin/python" "$here/infer.py" "$binary" "$folder" "$table" "$rounds" "$seconds"
