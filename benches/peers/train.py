"""Measures training steps of densenet-zoo and torch by turns and prints a table; `train.sh` calls it.

usage: train.py BINARY NETWORK BATCH ROUNDS

Every measurement is a process of its own; the figures are medians over the rounds of the median step in each. Peaks are those
of the whole process; torch's libraries and the network take what is printed below before the first step.
"""

import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

SECONDS, THREADS = 8.0, 2
HERE = Path(__file__).parent
OURS = [(3, "exact"), (3, "fast"), (4, "fast")]
PEERS = ["torch", "torch-last", "torch-efficient"]

binary, network, batch, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def printed(command):
    output = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return list(map(float, output.stdout.split()))


def ours(level, convolutions):
    seconds, _, peak, _ = printed([binary, network, batch, level, THREADS, SECONDS, convolutions])
    return seconds, peak, 0.0


def theirs(peer):
    return tuple(printed([sys.executable, HERE / "train_one.py", peer, network, batch, THREADS, SECONDS]))


runs = [[*(ours(*way) for way in OURS), *map(theirs, PEERS)] for _ in range(rounds)]
middle = lambda column, value: statistics.median(run[column][value] for run in runs)
seconds, peaks = ([middle(column, value) for column in range(len(OURS) + len(PEERS))] for value in range(2))
rates = [batch / one for one in seconds]
best = min(seconds[3:5])
print(f"{network}, batch {batch}, {THREADS} threads, f32, torch {version('torch')}; {middle(5, 2):.0f} MiB before torch's first step\n")
print("| | level 3, exact | level 3 | level 4 | torch | channels last | memory-efficient | level 3 against torch's best | level 4 against its memory-efficient |")
print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
shown = " | ".join(f"{rate:.1f}" for rate in rates)
print(f"| images/s | {shown} | {best / seconds[1]:.2f} | {seconds[5] / seconds[2]:.2f} |")
shown = " | ".join(f"{peak:.0f}" for peak in peaks)
print(f"| peak MiB | {shown} | {peaks[1] / min(peaks[3:5]):.2f} | {peaks[2] / peaks[5]:.2f} |")
