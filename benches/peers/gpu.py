"""Measures densenet-zoo and torch on a device by turns and prints a table; `scripts/gpu-check.sh` packs and calls it.

usage: gpu.py BINARY cuda|cpu

Every measurement is a process of its own; a figure is its median run. Memory of a card is the most that nvidia-smi shows for
the process while it runs; of the CPU, the process's peak. Without torch its columns stay empty.
"""

import importlib.util
import json
import subprocess
import sys
import threading
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
binary, device = sys.argv[1], sys.argv[2]
cuda = device == "cuda"
NETWORK, SECONDS = "densenet-121", 8.0 if cuda else 0.5
SIZE = 224 if cuda else 64

# What is measured: mode, precision, batch, memory level, and the ways of torch that it is compared with.
INFER, TRAIN = ["eager", "compiled"], ["eager", "efficient"]
ROWS = [
    ("infer", "f32", 256, None, INFER),
    ("infer", "f16", 256, None, INFER),
    ("infer", "bf16", 256, None, INFER),
    ("infer", "f16", 1, None, INFER),
    ("infer", "bf16", 1, None, INFER),
    ("train", "f32", 128, 3, TRAIN),
    ("train", "bf16", 128, 3, TRAIN),
    ("train", "bf16", 128, 4, TRAIN),
]
if not cuda:
    # The same ways in small; candle has no bf16 on the CPU.
    ROWS = [
        ("infer", "f32", 2, None, ["eager"]),
        ("infer", "f16", 2, None, []),
        ("train", "f32", 2, 3, TRAIN),
        ("train", "f32", 2, 4, TRAIN),
    ]


def card(query):
    command = ["nvidia-smi", f"--query-{query}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()


def printed(command):
    """What the process prints, and the most memory of the card that it had, in MiB."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    most, ended = [0.0], threading.Event()

    def watch():
        while cuda and not ended.wait(0.2):
            for line in card("compute-apps=pid,used_memory"):
                pid, used = line.split(",")
                if int(pid) == process.pid:
                    most[0] = max(most[0], float(used))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, errors = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        print(f"{' '.join(map(str, command))}: {errors.strip().splitlines()[-1:]}", file=sys.stderr)
        return None, 0.0
    return output, most[0]


def ours(mode, precision, batch, level):
    command = [binary, "bench", NETWORK, "--device", device, "--backend", "candle", "--precision", precision]
    command += ["--batch", batch, "--size", SIZE, "--seconds", SECONDS, "--format", "json"]
    command += ["--train", "--memory-level", level] if mode == "train" else ["--new-weights"]
    output, memory = printed(command)
    if output is None:
        return None
    (result,) = json.loads(output)
    return result["images_per_s"], memory if cuda else result["peak_mib"]


def theirs(mode, precision, batch, way):
    output, memory = printed([sys.executable, HERE / "gpu_one.py", device, mode, precision, batch, SIZE, way, SECONDS])
    if output is None:
        return None
    rate, peak = map(float, output.split())
    return rate, memory if cuda else peak


def shown(figures):
    return "| – | – " if figures is None else f"| {figures[0]:.1f} | {figures[1]:.0f} "


have = all(importlib.util.find_spec(name) for name in ("torch", "torchvision"))
where = ", ".join(card("gpu=name,driver_version")) if cuda else "CPU"
print(f"{date.today()}, {where}, {'torch ' + version('torch') if have else 'no torch'}, {NETWORK} at {SIZE}x{SIZE}\n")
print("| | images/s | MiB | torch images/s | MiB | its other way images/s | MiB | to torch | to the other |")
print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
for mode, precision, batch, level, ways in ROWS:
    mine = ours(mode, precision, batch, level)
    peers = [theirs(mode, precision, batch, way) if have else None for way in ways]
    peers += [None] * (2 - len(peers))
    ratios = ["–" if None in (mine, peer) else f"{mine[0] / peer[0]:.2f}" for peer in peers]
    name = f"{mode}, b{batch}, {precision}" + (f", level {level}" if level is not None else "")
    print(f"| {name} {shown(mine)}{shown(peers[0])}{shown(peers[1])}| {' | '.join(ratios)} |", flush=True)
