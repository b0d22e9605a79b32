"""Runs both converters on the same files by turns and prints a table; `convert.sh` calls it.

usage: measure.py BINARY FOLDER

Seconds and memory are those of the whole process, the median of ROUNDS runs after one that is thrown away, which leaves the
files in the page cache. A run ends when its process does: densenet-zoo has by then hashed its input and output and synced the
output to disk, Python has done neither. Python reads no Torch7 file.

This process stays small, because Linux counts the peak of the process that starts another into the other's.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 5
HERE = Path(__file__).parent


def run(command):
    """Wall seconds and peak resident MiB of one process, and what it printed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    # Linux counts in KiB, macOS in bytes.
    return seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), printed


def medians(runs):
    return [statistics.median(one[what] for one in runs) for what in (0, 1)]


def python(script, *arguments):
    return [sys.executable, str(HERE / script), *map(str, arguments)]


def main():
    binary, folder = sys.argv[1], Path(sys.argv[2])
    ours, theirs = folder / "ours.safetensors", folder / "torch.safetensors"
    print("| file | MiB | ours s | torch s | ratio | ours peak MiB | torch peak MiB | ratio | torch's load and save alone s |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    # The .t7 last: its weights are compared with what torch wrote from the file before.
    for source in sorted([*folder.glob("*.pth"), *folder.glob("*.t7")], key=lambda path: path.suffix):
        commands = [[binary, "convert", str(source), "-o", str(ours), "--force"]]
        if source.suffix == ".pth":
            commands += [python("convert_torch.py", source, theirs), python("convert_torch.py", source, theirs, "--time")]
        rounds = [[run(command) for command in commands] for _ in range(ROUNDS + 1)][1:]
        run(python("same_weights.py", ours, theirs))
        by_command = list(zip(*rounds))
        seconds, peak = medians(by_command[0])
        row = [source.name, f"{source.stat().st_size / 2**20:.1f}", f"{seconds:.2f}"]
        if source.suffix == ".pth":
            torch_seconds, torch_peak = medians(by_command[1])
            alone = statistics.median(float(printed) for _, _, printed in by_command[2])
            row += [f"{torch_seconds:.2f}", f"{torch_seconds / seconds:.1f}", f"{peak:.0f}", f"{torch_peak:.0f}"]
            row += [f"{torch_peak / peak:.1f}", f"{alone:.2f}"]
        else:
            row += ["", "", f"{peak:.0f}", "", "", ""]
        print("| " + " | ".join(row) + " |", flush=True)


main()
