"""Measures densenet-zoo and its peers by turns and prints tables in markdown; `infer.sh` calls it.

usage: infer.py BINARY FOLDER f32|bf16|avx2 ROUNDS SECONDS

Every measurement is a process of its own; the figures are medians over ROUNDS rounds of the median latency in each. Memory is
the process's own peak (VmHWM).
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

binary, folder, table, rounds, seconds = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
network = json.loads((folder / "network.json").read_text())
HERE = Path(__file__).parent


def ours(*options, model=folder / "network.safetensors"):
    return lambda batch, threads: [
        binary, "bench", model, "--batch", str(batch), "--threads", str(threads), "--seconds", seconds,
        "--device", "cpu", "--format", "json", *options,
    ]


def theirs(peer, precision="f32"):
    return lambda batch, threads: [sys.executable, HERE / "infer_one.py", peer, folder, str(batch), str(threads), seconds, precision]


# ONNX Runtime has no setting that keeps it from AVX-512.
TABLES = {
    "f32": {
        "densenet-zoo": ours(),
        "densenet-zoo, exact": ours("--exact"),
        "ONNX Runtime": theirs("onnxruntime"),
        "OpenVINO": theirs("openvino"),
        "OpenVINO, streams": theirs("openvino-streams"),
        "torch": theirs("torch"),
        "torch, channels last": theirs("torch-last"),
    },
    "bf16": {
        "densenet-zoo": ours("--precision", "bf16"),
        "OpenVINO": theirs("openvino", "bf16"),
        "OpenVINO, streams": theirs("openvino-streams", "bf16"),
    },
    "avx2": {
        "densenet-zoo": ours(),
        "densenet-zoo, exact": ours("--exact"),
        "OpenVINO": theirs("openvino"),
        "OpenVINO, streams": theirs("openvino-streams"),
    },
}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE)}
if table == "avx2":
    ENVIRONMENT |= {"DENSENET_ZOO_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def measure(command):
    printed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, env=ENVIRONMENT).stdout
    (result,) = json.loads(printed)
    return result["median_ms"], result["peak_mib"]


def medians(batch, threads):
    """Latency and memory of each contender, which take turns."""
    # One image is one stream.
    commands = {name: command(batch, threads) for name, command in TABLES[table].items() if batch > 1 or "streams" not in name}
    results = [{name: measure(command) for name, command in commands.items()} for _ in range(rounds)]
    return {name: tuple(statistics.median(values) for values in zip(*(one[name] for one in results))) for name in commands}


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name, family, model = (next(line.split(":")[1].strip() for line in lines if line.startswith(key)) for key in ["model name", "cpu family", "model\t"])
    return f"{name} (family {family}, model {model}), {os.cpu_count()} cores, Linux {platform.release()}"


def ratio(latency, peers):
    best = min((latency[peer][0] for peer in peers if peer in latency), default=None)
    return "–" if best is None else f"{best / latency['densenet-zoo'][0]:.2f}"


contenders = list(TABLES[table])
cases = [(1, 2), (32, 2)] + ([(1, 1)] if network["name"] == "densenet121" else [])
print(f"{network['name']}, {network['side']}x{network['side']}, {table}; {processor()}; medians of {rounds} rounds of {seconds} s by turns; ", end="")
print(", ".join(f"{package} {version(package)}" for package in ["onnxruntime", "openvino", "torch"]))
if table == "avx2":
    print("\nDENSENET_ZOO_ISA=avx2, ONEDNN_MAX_CPU_ISA=AVX2; ONNX Runtime cannot be kept from AVX-512 and is not in the table.")
print("\n| batch | threads | " + " | ".join(contenders) + " | against the better of ONNX Runtime and OpenVINO | against torch |")
print("|--:|--:|" + "--:|" * (len(contenders) + 2), flush=True)
alone = None
for batch, threads in cases:
    latency = medians(batch, threads)
    alone = alone or latency
    shown = lambda name: (f"{latency[name][0]:.1f} ms" if batch == 1 else f"{batch * 1e3 / latency[name][0]:.1f}/s") if name in latency else "–"
    ratios = [ratio(latency, ["ONNX Runtime", "OpenVINO", "OpenVINO, streams"]), ratio(latency, ["torch", "torch, channels last"])]
    print(f"| {batch} | {threads} | " + " | ".join([*map(shown, contenders), *ratios]) + " |", flush=True)

# A process of ours that holds next to no network, and one of Python's that holds none.
idle = [measure(ours(model="digits")(1, 2))[1], measure(theirs("idle")(1, 2))[1]]
print("\n| one image, two threads | peak MiB | over an idle process |\n|---|--:|--:|")
for name, (_, peak) in alone.items():
    print(f"| {name} | {peak:.0f} | {peak - idle['densenet-zoo' not in name]:.0f} |")

times = []
for _ in range(9):
    start = time.perf_counter()
    command = [binary, "classify", folder / "network.safetensors", folder / "image.png", "--device", "cpu", "--precision", "bf16" if table == "bf16" else "f32"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=ENVIRONMENT)
    times.append(1e3 * (time.perf_counter() - start))
print(f"\ndensenet-zoo, from the process's start to an image's classes, files in the page cache: {statistics.median(times):.0f} ms (best {min(times):.0f})")
