"""Measures densenet-zoo and its peers by turns and prints a table; `infer.sh` calls it.

usage: infer.py BINARY FOLDER

Every measurement is a process of its own; the figures are medians over ROUNDS rounds of the median latency in each. Linux counts
the peak of a process that starts another into the other's, so this one stays small.
"""

import json
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROUNDS, SECONDS = 3, 4.0
HERE = Path(__file__).parent
PEERS = ["onnxruntime", "openvino", "torch", "torch-last"]

binary, folder = sys.argv[1], sys.argv[2]


def printed(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout


def ours(batch, threads, precision="f32"):
    model = f"{folder}/network.safetensors"
    command = [binary, "bench", model, "--batch", str(batch), "--threads", str(threads), "--seconds", str(SECONDS), "--precision", precision]
    (result,) = json.loads(printed([*command, "--device", "cpu", "--format", "json"]))
    return result["median_ms"], result["peak_mib"]


def theirs(peer, batch, threads):
    command = [sys.executable, HERE / "infer_one.py", peer, folder, str(batch), str(threads), str(SECONDS)]
    return tuple(map(float, printed(command).split()))


name = Path(folder, "name").read_text()
print(f"{name}, 224x224, f32; " + ", ".join(f"{package} {version(package)}" for package in ["onnxruntime", "openvino", "torch"]))
print("\n| batch | threads | densenet-zoo | ONNX Runtime | OpenVINO | torch | against the best of them | peak MiB, ours | ONNX Runtime's |")
print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
for batch, threads in [(1, 2), (1, 1), (32, 2)]:
    rounds = [[ours(batch, threads), *(theirs(peer, batch, threads) for peer in PEERS)] for _ in range(ROUNDS)]
    latency = [statistics.median(one[column][0] for one in rounds) for column in range(1 + len(PEERS))]
    peak = [statistics.median(one[column][1] for one in rounds) for column in range(2)]
    mine, ort, vino, torch = latency[0], latency[1], latency[2], min(latency[3:])
    shown = (lambda ms: f"{ms:.1f} ms") if batch == 1 else (lambda ms: f"{batch * 1e3 / ms:.1f}/s")
    figures = " | ".join(shown(ms) for ms in [mine, ort, vino, torch])
    ratio = min(ort, vino, torch) / mine
    print(f"| {batch} | {threads} | {figures} | {ratio:.2f} | {peak[0]:.0f} | {peak[1]:.0f} |", flush=True)

print("\n| batch, bf16 | threads | densenet-zoo | OpenVINO | ratio |\n|--:|--:|--:|--:|--:|")
for batch, threads in [(1, 2), (1, 1), (32, 2)]:
    rounds = [(ours(batch, threads, "bf16")[0], theirs("openvino-bf16", batch, threads)[0]) for _ in range(ROUNDS)]
    mine, vino = (statistics.median(column) for column in zip(*rounds))
    shown = (lambda ms: f"{ms:.1f} ms") if batch == 1 else (lambda ms: f"{batch * 1e3 / ms:.1f}/s")
    print(f"| {batch} | {threads} | {shown(mine)} | {shown(vino)} | {vino / mine:.2f} |", flush=True)
