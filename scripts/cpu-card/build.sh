#!/usr/bin/env bash
# Makes a card of the CPU: CUDA's libraries, on which the GPU code of this program runs as on a card, slowly.
# usage: build.sh FOLDER      then LD_LIBRARY_PATH=FOLDER, and LIBRARY_PATH=FOLDER to link
# candle's kernels and ours are compiled for the CPU from their sources; the driver, cuBLAS and cuDNN are written anew beside this
# file, as far as this program calls them. Any other function says that there is no card.
set -euo pipefail
folder=$(realpath -m "${1:?usage: build.sh FOLDER}")
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."

# Where the sources of a crate lie.
crate() {
    cargo metadata --format-version 1 --features cudnn | tr ',' '\n' |
        sed -n "s|.*\"manifest_path\":\"\(.*/$1-[0-9][^/\"]*\)/Cargo.toml\".*|\1|p" | head -n 1
}
cudarc=$(crate cudarc)
kernels=$(crate candle-kernels)/src

state=$(cat "$here"/* <(scripts/kernels.sh) <(echo "$cudarc $kernels") | sha256sum)
if [ "$(cat "$folder/state" 2>/dev/null)" = "$state" ]; then
    exit
fi
rm -rf "$folder"
mkdir -p "$folder/include/cuda/std" "$folder/objects"
for header in cuda_fp16.h cuda_bf16.h cuda_fp8.h cuda.h cuda/std/limits; do
    echo '#include "language.h"' >"$folder/include/$header"
done
compile() {
    c++ -std=c++20 -fPIC -U_FORTIFY_SOURCE -fno-strict-aliasing -I"$here" -I"$folder/include" -I"$kernels" "$@"
}

for source in driver threads blas cudnn; do
    compile -O3 -Wall -Wextra -Wno-unused-parameter -c "$here/$source.cpp" -o "$folder/objects/$source.o"
done

# Each file of kernels, and behind it the names of them that it has.
scripts/kernels.sh >"$folder/objects/ours.cu"
for source in "$kernels"/{affine,binary,cast,conv,fill,indexing,reduce,sort,ternary,unary}.cu "$folder/objects/ours.cu"; do
    name=$(basename "$source" .cu)
    {
        printf '#include "language.h"\n#define ON_CPU\ntypedef __half f16;\n'
        # What a launch asks for besides: 48 KiB at most, and of 16 bytes at a time 192.
        sed -E 's/extern __shared__ (int|float|uint4) ([a-z_]+)\[\];/__shared__ \1 \2[12288];/' "$source"
    } >"$folder/objects/$name.cpp"
    compile -w -E -P -D__global__=KERNEL "$folder/objects/$name.cpp" | grep -oE 'KERNEL +void +[A-Za-z0-9_]+' |
        sed -E 's/.* (.*)/CARD_KERNEL(\1)/' >>"$folder/objects/$name.cpp.names"
    cat "$folder/objects/$name.cpp.names" >>"$folder/objects/$name.cpp"
    compile -O1 -w -c "$folder/objects/$name.cpp" -o "$folder/objects/$name.o"
done

{
    grep -rhoE 'fn (cu[A-Z]|cublas|curand|nvrtc|cudnn)[A-Za-z0-9_]*' "$cudarc"/src/{driver,cublas,cublaslt,curand,nvrtc,cudnn}/sys
    grep -hoE 'fn [A-Za-z0-9_]*' "$kernels/ffi.rs"
} | sort -u | awk '{ print "__attribute__((weak)) int " $2 "(void) { return 100; }" }' >"$folder/objects/others.c"
cc -fPIC -w -fno-builtin -c "$folder/objects/others.c" -o "$folder/objects/others.o"

# The files of kernels have functions of the card in common.
c++ -shared -Wl,-z,muldefs -o "$folder/libcard.so" "$folder"/objects/*.o
for library in cuda cublas cublasLt curand nvrtc cudart cudnn; do
    ln -s libcard.so "$folder/lib$library.so"
done
echo "$state" >"$folder/state"
