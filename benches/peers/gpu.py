"""Measures densenet-zoo and torch on a device by turns and prints a table; `scripts/gpu-check.sh` packs and calls it.

usage: gpu.py BINARY cuda|cpu

Every measurement is a process of its own; a figure is its median run. Ours copies every batch to the device, torch's images lie
there. Memory of a card is what is taken of it at the process's end, less what was before, since both keep what they once had; of
the CPU, the process's peak. Without torch its columns stay empty.
"""

import functools
import importlib.util
import json
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
binary, device = sys.argv[1], sys.argv[2]
cuda = device == "cuda"
NETWORK, SECONDS = "densenet-121", 5.0 if cuda else 0.5
SIZE = 224 if cuda else 64

# What is measured: mode, precision, batch, memory level, and the ways of torch that it is compared with. What matters most comes
# first, for a card that is lent for minutes.
ROWS = [
    ("infer", "bf16", 256, None, ["eager", "compiled"]),
    ("infer", "bf16", 1, None, ["eager", "compiled"]),
    ("train", "bf16", 128, 3, ["eager", "efficient"]),
    ("train", "bf16", 128, 4, ["eager", "efficient"]),
    ("infer", "f16", 256, None, ["eager"]),
    ("infer", "f16", 1, None, ["eager"]),
    ("infer", "tf32", 256, None, ["eager"]),
    ("infer", "f32", 256, None, ["eager"]),
    ("train", "f32", 128, 3, ["eager"]),
]
if not cuda:
    # The same ways in small; candle has no bf16 on the CPU.
    ROWS = [
        ("infer", "f32", 2, None, ["eager"]),
        ("infer", "f16", 2, None, []),
        ("train", "f32", 2, 3, ["eager", "efficient"]),
        ("train", "f32", 2, 4, ["eager", "efficient"]),
    ]


def card(query):
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()[0]


def printed(command):
    ended = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if ended.returncode:
        print(f"{' '.join(map(str, command))}: {ended.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return ended.stdout


def ours(mode, precision, batch, level):
    command = [binary, "bench", NETWORK, "--device", device, "--backend", "candle", "--precision", precision]
    command += ["--batch", batch, "--size", SIZE, "--seconds", SECONDS, "--format", "json"]
    command += ["--train", "--memory-level", level] if mode == "train" else ["--new-weights"]
    output = printed(command)
    if output is None:
        return None
    (result,) = json.loads(output)
    return result["images_per_s"], result["card_mib"] - BEFORE if cuda else result["peak_mib"]


@functools.cache
def theirs(mode, precision, batch, way):
    output = printed([sys.executable, HERE / "gpu_one.py", device, mode, precision, batch, SIZE, way, SECONDS])
    if output is None:
        return None
    rate, peak = map(float, output.split())
    return rate, peak - BEFORE


BEFORE = float(card("memory.used")) if cuda else 0.0


def shown(figures):
    return "| – | – " if figures is None else f"| {figures[0]:.1f} | {figures[1]:.0f} "


have = all(importlib.util.find_spec(name) for name in ("torch", "torchvision"))
where = card("name,driver_version") if cuda else "CPU"
print(f"{date.today()}, {where}, {'torch ' + version('torch') if have else 'no torch'}, {NETWORK} at {SIZE}x{SIZE}\n")
print("| | images/s | MiB | torch images/s | MiB | its other way | images/s | MiB | to torch | to the other | MiB to the other |")
print("|---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|")
for mode, precision, batch, level, ways in ROWS:
    mine = ours(mode, precision, batch, level)
    peers = [theirs(mode, precision, batch, way) if have else None for way in ways]
    peers += [None] * (2 - len(peers))
    ratios = ["–" if None in (mine, peer) else f"{mine[0] / peer[0]:.2f}" for peer in peers]
    ratios.append("–" if None in (mine, peers[1]) else f"{mine[1] / peers[1][1]:.2f}")
    name = f"{mode}, b{batch}, {precision}" + (f", level {level}" if level is not None else "")
    other = ways[1] if len(ways) > 1 else "–"
    print(f"| {name} {shown(mine)}{shown(peers[0])}| {other} {shown(peers[1])}| {' | '.join(ratios)} |", flush=True)
