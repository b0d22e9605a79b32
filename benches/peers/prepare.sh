#!/usr/bin/env bash
# How many photographs a second densenet-zoo and Pillow with torchvision make ready for a network, on one core each.
# usage: prepare.sh VENV [PHOTO.jpg [ZOO_BINARY]]   VENV as `setup.sh` makes it; build with `cargo build --release` first.
# The photograph is the fixture of 500x375 pixels (4:2:0) unless another is given.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:?usage: prepare.sh VENV [PHOTO.jpg [ZOO_BINARY]]}
photo=${2:-$here/../../tests/fixtures/preproc/photo_500x375_420.jpg}
binary=${3:-$here/../../target/release/densenet-zoo}
export PYTHONDONTWRITEBYTECODE=1
"$venv/bin/python" "$here/prepare.py" "$binary" "$photo"
