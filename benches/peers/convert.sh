#!/usr/bin/env bash
# How long, and in how much memory, densenet-zoo and torch turn the same checkpoint into safetensors.
# usage: convert.sh VENV [ZOO_BINARY]      VENV as `setup.sh` makes it; build with `cargo build --release` first.
# The files (0.6 GB while it runs) go to a new folder under $TMPDIR, which is removed at the end.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:?usage: convert.sh VENV [ZOO_BINARY]}
binary=${2:-$here/../../target/release/densenet-zoo}
folder=$(mktemp -d)
export PYTHONDONTWRITEBYTECODE=1
trap 'rm -rf "$folder"' EXIT

"$venv/bin/python" "$here/make_checkpoints.py" "$folder"
"$venv/bin/python" "$here/measure.py" "$binary" "$folder"
