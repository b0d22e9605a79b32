#!/usr/bin/env bash
# How fast densenet-zoo and torch train the same DenseNet on the CPU, by turns, and in how much memory.
# usage: train.sh VENV [NETWORK [BATCH [ROUNDS]]]    VENV as `setup.sh` makes it; first
#        cargo build --release --package densenet-engine --example train
# NETWORK is a name of ours, densenet-121 unless given; BATCH 16, ROUNDS 3. DENSENET_TRAIN may name another program.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:?usage: train.sh VENV [NETWORK [BATCH [ROUNDS]]]}
binary=${DENSENET_TRAIN:-$here/../../target/release/examples/train}
export PYTHONDONTWRITEBYTECODE=1
"$venv/bin/python" "$here/train.py" "$binary" "${2:-densenet-121}" "${3:-16}" "${4:-3}"
