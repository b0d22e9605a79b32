#!/usr/bin/env bash
# Prints our kernels as one source, in the order in which NVRTC gets them.
set -euo pipefail
cd "$(dirname "$0")/.."
sed -n 's|.*include_str!("\(kernels/.*\.cu\)").*|src/gpu/\1|p' src/gpu/launch.rs | xargs cat
