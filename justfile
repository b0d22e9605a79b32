# Names for the steps of the gate, which is `.ci/run`. `just` alone lists them.

_default:
    @just --list --unsorted

# The whole gate.
check:
    .ci/run

# Formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# All tests.
test:
    cargo test --release --workspace

# The documentation, without a warning.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# arch, converters, engine and zoo know neither candle nor one another (arch aside).
layers: (layer "densenet-arch") (layer "densenet-converters") (layer "densenet-engine") (layer "densenet-registry")

[private]
layer crate:
    @tree=$(cargo tree --package {{crate}} --all-features --edges normal --prefix none) && ! printf '%s\n' "$tree" | grep -E '^(candle|densenet-)' | grep -vE '^({{crate}}|densenet-arch) '

# Types and lints of the CUDA code, and its tests on a card that is the CPU; needs neither card nor toolkit.
check-cuda:
    scripts/check-cuda.sh

# Tests and benches of a device, packed to be run where it is: gpu-check/run.sh. FEATURE is cudnn, cuda or cpu.
gpu-check PACK="gpu-check.tar.gz" FEATURE="cudnn":
    scripts/gpu-check.sh {{PACK}} {{FEATURE}}

# The whole way of a weight file, offline.
demo:
    cargo run --release -- demo

# The digits' whole recipe with three seeds; networks and figures are left in FOLDER.
train-digits FOLDER:
    for seed in 1 2 3; do cargo run --release -- train --preset digits --seed $seed --out {{FOLDER}}/$seed || exit; done

# Conversion beside torch.load and safetensors; VENV as benches/peers/setup.sh makes it.
bench-convert VENV:
    cargo build --release
    benches/peers/convert.sh {{VENV}}

# Images made ready on one core, beside Pillow and torchvision; VENV as benches/peers/setup.sh makes it.
bench-prepare VENV:
    cargo build --release
    benches/peers/prepare.sh {{VENV}}

# The report of a real run in headless Chromium: wide, dark, on a phone, in print; pictures are left in FOLDER.
look FOLDER:
    cargo build --release
    scripts/look-at-report.sh {{FOLDER}}

# The engine beside ONNX Runtime, OpenVINO and torch; VENV as benches/peers/setup.sh makes it.
bench-infer VENV NETWORK="densenet121" TABLE="f32":
    cargo build --release
    benches/peers/infer.sh {{VENV}} {{NETWORK}} {{TABLE}}

# ONNX exports of all eight ImageNet networks, run by ONNX Runtime and OpenVINO; VENV as benches/peers/setup.sh makes it.
check-onnx VENV *NAMES:
    cargo build --release
    benches/peers/onnx.sh {{VENV}} {{NAMES}}

# The engine's tests on an emulated aarch64; needs qemu-user and gcc-aarch64-linux-gnu.
neon:
    rustup target add aarch64-unknown-linux-gnu
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
    cargo test --release --target aarch64-unknown-linux-gnu --package densenet-engine

# The portable kernels, the thread team and the buffers under Miri, which runs no vector instructions; needs nightly Rust with miri.
miri:
    cargo +nightly miri test --package densenet-engine --lib -- kernels team lanes maps isa winograd profile

# The engine under AddressSanitizer with every instruction set that this processor has; needs nightly Rust with rust-src.
asan:
    RUSTFLAGS=-Zsanitizer=address cargo +nightly test --release -Zbuild-std --target x86_64-unknown-linux-gnu \
        --package densenet-engine --lib --test engine

# A network's latency alone and beside eight busy processes.
oversubscribed MODEL:
    cargo build --release
    benches/oversubscribed.sh {{MODEL}}

# Licences, sources and advisories of the dependencies; needs cargo-deny.
deny:
    cargo deny check

# Killed with SIGKILL at 200 moments of a 64 MiB download, and at eight kinds of system call 20 times each; needs strace.
kill:
    DENSENET_ZOO_LONG=1 cargo test --release --test main net::kill -- --nocapture

# 16 processes that fetch four models ten times, with locks and without.
crowd:
    DENSENET_ZOO_LONG=1 cargo test --release --test main net::many -- --nocapture

# The memory that a file of 557 MB takes while it is fetched, and its speed beside sha256sum.
memory:
    DENSENET_ZOO_LONG=1 cargo test --release --test main net::memory -- --nocapture
