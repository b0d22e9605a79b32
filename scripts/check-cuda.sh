#!/usr/bin/env bash
# Type-checks and lints the GPU code, and runs it: an nvcc that writes nothing stands in for NVIDIA's, and the CPU for the card
# (cpu-card/build.sh). Neither card, driver nor toolkit is needed; where there is an nvcc, it compiles our kernels as well.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
mkdir -p "$target/cuda-standin/bin" "$target/cuda-standin/include"

# NVIDIA's compiler, if it is on the path or cuda-without-gpu.sh has set it up: for cards with and without our tensor core kernels.
kept=${CUDA_WITHOUT_GPU:-${XDG_CACHE_HOME:-$HOME/.cache}/cuda-without-gpu}/toolkit/nvidia/cu13/bin
if nvcc=$(PATH=$PATH:$kept command -v nvcc); then
    scripts/kernels.sh >"$target/cuda-standin/kernels.cu"
    for arch in sm_75 sm_80 sm_90; do
        "$nvcc" -cubin -Werror all-warnings -arch=$arch -o /dev/null "$target/cuda-standin/kernels.cu"
    done
fi

install -m 755 scripts/nvcc-standin.sh "$target/cuda-standin/bin/nvcc"
export CUDA_HOME=$target/cuda-standin NVCC=$target/cuda-standin/bin/nvcc CUDA_COMPUTE_CAP=90 CUDARC_CUDA_VERSION=13000
export LIBRARY_PATH=$target/cpu-card LD_LIBRARY_PATH=$target/cpu-card

if command -v c++ >/dev/null; then
    scripts/cpu-card/build.sh "$target/cpu-card"
else
    echo "the GPU code is not run here: there is no C++ compiler" >&2
fi
for features in cuda cudnn; do
    cargo clippy --release --all-targets --features "$features" -- -D warnings
done
[ -e "$target/cpu-card/libcuda.so" ] || exit 0
# With cuDNN there is all that there is without, candle's own convolutions aside.
export DENSENET_ZOO_TEST_DEVICE=cuda
cargo test --release --features cudnn --test main device::
# What comes out must not know which thread was first.
CPU_CARD_BACKWARDS=1 cargo test --release --features cudnn --test main -- device::inference::folded device::training::half

# What the program says of cards that it cannot use.
refuses() {
    local expected="densenet-zoo: $1" found
    found=$({ env "$2" "$target/release/densenet-zoo" eval digits --data digits --device "$3" 2>&1 || true; } | tail -n 1)
    if [ "${found:0:${#expected}}" != "$expected" ]; then
        printf 'with %s: %s\nexpected: %s\n' "$2" "$found" "$expected" >&2
        exit 1
    fi
}
refuses "cuda:0: there is no NVIDIA card; take --device cpu" CPU_CARD_COUNT=0 cuda
refuses "cuda:2: there is no card of that number" CPU_CARD_COUNT=2 cuda:2
refuses "cuda:0: the card is too old for this build" CPU_CARD_CAPABILITY=75 cuda
refuses "cuda:0: the driver is older than the toolkit of this build; update the driver" CPU_CARD_PTX=75 cuda
refuses "cuda:0: its memory is full" CPU_CARD_MEMORY=0 cuda

# The embedded network over its images, as Torch7 had it, most of the batches from a graph.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
found=$(CPU_CARD_LOG=$log "$target/release/densenet-zoo" eval digits --data digits --device cuda --precision bf16)
if ! grep -q "8 of 360" <<<"$found" || ! grep -q "^a graph$" "$log"; then
    printf 'expected 8 of 360 and a graph:\n%s\n' "$found" >&2
    exit 1
fi

# A card is told little: of three steps of that network, and of making it ready, 1,212 launches beside products and convolutions.
: >"$log"
CPU_CARD_LOG=$log "$target/release/densenet-zoo" bench digits --device cuda --train --precision bf16 --batch 4 --seconds 0 >/dev/null
launches=$(wc -l <"$log")
if ((launches > 1300)); then
    echo "three steps of training have $launches launches; 1,300 at most are expected" >&2
    exit 1
fi

# What may round says so.
found=$("$target/release/densenet-zoo" bench digits --device cuda --precision tf32 --batch 1 --seconds 0)
if ! grep -q "candle, cuda:0, tf32" <<<"$found" || ! grep -q "card MiB" <<<"$found"; then
    printf 'expected candle, cuda:0, tf32 and the card'"'"'s memory:\n%s\n' "$found" >&2
    exit 1
fi
