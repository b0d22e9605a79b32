#!/usr/bin/env bash
# Stands in for nvcc where code is type-checked only: it takes nvcc's arguments and writes empty outputs. What is built with it
# cannot run.
set -euo pipefail

target=sm_90
output=
folder=.
mode=object
sources=()
while (($#)); do
    case $1 in
        --version) echo "Cuda compilation tools, release 13.0, V13.0.0"; exit ;;
        --list-gpu-code) printf 'sm_80\n%s\n' "$target"; exit ;;
        --ptx | -ptx) mode=ptx ;;
        --lib) mode=archive ;;
        -o) output=$2; shift ;;
        --output-directory | -odir) folder=$2; shift ;;
        --output-directory=*) folder=${1#*=} ;;
        -Xcompiler | -gencode | --gpu-architecture | --default-stream) shift ;;
        *.cu | *.o) sources+=("$1") ;;
    esac
    shift
done

case $mode in
    ptx)
        for source in "${sources[@]}"; do
            name=$(basename "${source%.cu}")
            printf '.version 8.0\n.target %s\n.address_size 64\n' "$target" >"${output:-$folder/$name.ptx}"
        done
        ;;
    archive) rm -f "$output" && ar rcs "$output" "${sources[@]}" ;;
    object) cc -c -x c /dev/null -o "$output" ;;
esac
