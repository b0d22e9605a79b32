#!/usr/bin/env bash
# Runs our kernels on the CPU, compiles them, and type-checks and lints the GPU code, by the nvcc that is installed. Without one,
# an nvcc that writes nothing stands in: neither card, driver nor toolkit is needed.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v nvcc >/dev/null; then
    for source in src/gpu/*.cu; do
        nvcc --ptx -arch=sm_80 -o /dev/null "$source"
    done
else
    home=$(realpath -m "${CARGO_TARGET_DIR:-target}")/cuda-standin
    mkdir -p "$home/bin" "$home/include"
    install -m 755 scripts/nvcc-standin.sh "$home/bin/nvcc"

    export CUDA_HOME=$home NVCC=$home/bin/nvcc CUDA_COMPUTE_CAP=90 CUDARC_CUDA_VERSION=13000
fi

if command -v c++ >/dev/null; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    c++ -std=c++20 -O1 -pthread -o "$folder/kernels" scripts/kernels-on-cpu.cpp
    "$folder/kernels"
else
    echo "the kernels are not run on the CPU here: there is no C++ compiler" >&2
fi

for features in cuda cudnn; do
    cargo clippy --release --all-targets --features "$features" -- -D warnings
done
