#!/usr/bin/env bash
# NVIDIA's compiler and libraries to link against, for CUDA builds where there is neither card nor toolkit:
#     eval "$(scripts/cuda-without-gpu.sh)" && cargo build --release --features cuda       # 13 CPU minutes the first time
# The compiler comes from NVIDIA's Python packages, by pip. The libraries are stubs whose functions all say that there is no
# card; the program finds the real ones where there is one, with CUDA 13 (libcuda.so.1, libcublas.so.13, libcurand.so.10,
# libnvrtc.so.13, libcudart.so.13, and with cudnn libcudnn.so.9). All is kept in CUDA_WITHOUT_GPU, or in the user's cache.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${CUDA_WITHOUT_GPU:-${XDG_CACHE_HOME:-$HOME/.cache}/cuda-without-gpu}
toolkit=$folder/toolkit/nvidia/cu13
stubs=$folder/stubs

if [ ! -x "$toolkit/bin/nvcc" ]; then
    mkdir -p "$folder/wheels"
    python3 -m pip download --quiet --no-deps --dest "$folder/wheels" nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2
    for wheel in "$folder"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$folder/toolkit"
    done
    chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
fi

# A library with every function of that pattern that cudarc's bindings declare; each returns CUDA_ERROR_NO_DEVICE.
stub() {
    local name=$1 soname=$2 bindings=$3 pattern=$4
    grep -rhoE "fn ($pattern)[A-Za-z0-9_]*" "$bindings" | awk '{ print "int " $2 "(void) { return 100; }" }' | sort -u |
        cc -shared -fPIC -x c - -Wl,-soname,"$soname" -o "$stubs/lib$name.so"
    ln -sf "lib$name.so" "$stubs/$soname"
}

if [ ! -e "$stubs/complete" ]; then
    mkdir -p "$stubs"
    cargo fetch --quiet
    manifest=$(cargo metadata --format-version 1 --features cudnn | tr ',' '\n' |
        sed -n 's|.*"manifest_path":"\(.*/cudarc-[^"]*\)/Cargo.toml".*|\1|p' | head -n 1)
    stub cuda libcuda.so.1 "$manifest/src/driver/sys" 'cu[A-Z]'
    stub cublas libcublas.so.13 "$manifest/src/cublas/sys" 'cublas'
    stub cublasLt libcublasLt.so.13 "$manifest/src/cublaslt/sys" 'cublasLt'
    stub curand libcurand.so.10 "$manifest/src/curand/sys" 'curand'
    stub nvrtc libnvrtc.so.13 "$manifest/src/nvrtc/sys" 'nvrtc'
    stub cudnn libcudnn.so.9 "$manifest/src/cudnn/sys" 'cudnn'
    for library in libcudart.so libcudart.so.13; do
        ln -sf "$toolkit/lib/libcudart.so.13" "$stubs/$library"
    done
    touch "$stubs/complete"
fi

cat <<OUT
export CUDA_HOME=$toolkit NVCC=$toolkit/bin/nvcc CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-80}
export PATH=$toolkit/bin:\$PATH LIBRARY_PATH=$stubs\${LIBRARY_PATH:+:\$LIBRARY_PATH}
OUT
