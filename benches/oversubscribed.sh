#!/usr/bin/env bash
# Latency of one image by two threads, on a machine of its own and beside eight busy processes.
# usage: oversubscribed.sh MODEL [ZOO_BINARY [SECONDS]]      build with `cargo build --release` first
# With ten threads to run, two cores give each a fifth of its time: five times the latency is in proportion. A network's run must
# be longer than a scheduler's turn (some milliseconds) for that to mean much.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
model=${1:?usage: oversubscribed.sh MODEL [ZOO_BINARY [SECONDS]]}
binary=${2:-$here/../target/release/densenet-zoo}
seconds=${3:-5}
cores=0,1
measure() { taskset -c $cores "$binary" bench "$model" --batch 1 --threads 2 --device cpu --seconds "$seconds" --format json; }
field() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"; }

alone=$(measure)
busy=()
trap 'kill "${busy[@]}" 2>/dev/null' EXIT
for _ in 1 2 3 4 5 6 7 8; do
    taskset -c $cores sh -c 'while :; do :; done' &
    busy+=($!)
done
beside=$(measure)
for name in best_ms median_ms p90_ms; do
    a=$(field $name <<<"$alone") b=$(field $name <<<"$beside")
    awk -v name="$name" -v a="$a" -v b="$b" 'BEGIN { printf "%-9s %8.2f alone %8.2f beside eight: %.1f times\n", name, a, b, b / a }'
done
# Quantiles hide how the scheduler takes turns; the mean does not.
awk -v s="$seconds" -v a="$(field runs <<<"$alone")" -v b="$(field runs <<<"$beside")" \
    'BEGIN { printf "%-9s %8.2f alone %8.2f beside eight: %.1f times\n", "mean_ms", 1e3 * s / a, 1e3 * s / b, a / b }'
