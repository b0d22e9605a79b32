#!/usr/bin/env bash
# Builds for a device, packs what a check there needs, and, where the device is here, runs it: the device's tests, then the
# benches beside the torch that is installed, as one table.
# usage: gpu-check.sh PACK.tar.gz [cudnn|cuda|cpu]      cudnn unless told; cpu runs the same in small
# Elsewhere: tar xzf PACK.tar.gz && gpu-check/run.sh    needs no network, no Rust, no toolkit
set -euo pipefail

pack=$(realpath -m "${1:?usage: gpu-check.sh PACK.tar.gz [cudnn|cuda|cpu]}")
feature=${2:-cudnn}
cd "$(dirname "$0")/.."

case $feature in
    cpu) device=cpu features=() ;;
    cuda | cudnn) device=cuda features=(--features "$feature") ;;
    *) echo "cudnn, cuda or cpu is expected, not $feature" >&2; exit 2 ;;
esac

cargo build --release "${features[@]}"
built=$(cargo test --release --test main --no-run --message-format json "${features[@]}" |
    sed -n 's/.*"name":"main".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
program=$(dirname "$built")/../densenet-zoo

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/gpu-check/bin" "$folder/gpu-check/tests/fixtures"
cp "$program" "$folder/gpu-check/bin/"
cp "$built" "$folder/gpu-check/bin/tests"
for fixture in pytorch/cifar_{gpleiss_zip.pt,train_ref_from_f64.safetensors,input.npy,labels.npy} \
    torch7/{a_cifar_bc_mem2,c_cifar_bc_mem3}; do
    mkdir -p "$folder/gpu-check/tests/fixtures/$(dirname "$fixture")"
    cp -r "tests/fixtures/$fixture" "$folder/gpu-check/tests/fixtures/$fixture"
done
cp scripts/gpu-check-run.sh "$folder/gpu-check/run.sh"
cp benches/peers/gpu.py benches/peers/gpu_one.py "$folder/gpu-check/"
echo "$device" >"$folder/gpu-check/device"

tar -C "$folder" -czf "$pack" gpu-check
size=$(stat -c %s "$pack")
echo "$pack: $((size / 1000000)) MB"
if ((size > 60000000)); then
    echo "more than 60 MB" >&2
    exit 1
fi
if [ "$device" = cpu ] || nvidia-smi >/dev/null 2>&1; then
    "$folder/gpu-check/run.sh"
else
    echo "there is no card here; unpack it where there is one, and run gpu-check/run.sh" >&2
fi
