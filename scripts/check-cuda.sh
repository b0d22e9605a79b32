#!/usr/bin/env bash
# Type-checks and lints the GPU code, and compiles our kernels, with the nvcc that is installed. Without one the kernels are left
# out, and an nvcc that writes nothing stands in for those of candle: neither card, driver nor toolkit is needed.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v nvcc >/dev/null; then
    for source in src/gpu/*.cu; do
        nvcc --ptx -arch=sm_80 -o /dev/null "$source"
    done
else
    home=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/cuda-standin
    mkdir -p "$home/bin" "$home/include"
    install -m 755 scripts/nvcc-standin.sh "$home/bin/nvcc"

    export CUDA_HOME=$home NVCC=$home/bin/nvcc CUDA_COMPUTE_CAP=90 CUDARC_CUDA_VERSION=13000
fi
for features in cuda cudnn; do
    cargo clippy --release --all-targets --features "$features" -- -D warnings
done
