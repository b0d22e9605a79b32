"""Prepares the same photographs by turns with densenet-zoo and with Pillow and torchvision, one core each; `prepare.sh` calls it.

usage: prepare.py BINARY PHOTO

Both read COPIES files from a folder, decode, resize the short side to 256 (bilinear), cut 224, and normalise. Ours is timed by
`eval --dry-network`, theirs around the loop over the images: neither counts its start. Medians of ROUNDS rounds after one that
is thrown away.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import PIL
import torch
import torchvision
from PIL import Image, features
from torchvision import transforms

ROUNDS, COPIES = 7, 400

binary, photo = sys.argv[1], Path(sys.argv[2])
torch.set_num_threads(1)
transform = transforms.Compose([
    transforms.Resize(256),
    transforms.CenterCrop(224),
    transforms.ToTensor(),
    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
])


def ours(folder):
    command = [binary, "eval", "digits", "--protocol", "pil-bilinear", "--data", folder, "--dry-network", "--workers", "1"]
    printed = subprocess.run([*command, "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(printed.stdout)["images_per_s"]


def theirs(folder):
    paths = sorted(Path(folder, "0").iterdir())
    start = time.perf_counter()
    for path in paths:
        with open(path, "rb") as file:
            transform(Image.open(file).convert("RGB"))
    return len(paths) / (time.perf_counter() - start)


with tempfile.TemporaryDirectory() as folder:
    os.mkdir(f"{folder}/0")
    for number in range(COPIES):
        shutil.copy(photo, f"{folder}/0/{number}.jpg")
    rounds = [(ours(folder), theirs(folder)) for _ in range(ROUNDS + 1)][1:]
    mine, other = (statistics.median(column) for column in zip(*rounds))
    size = Image.open(photo).size
    print(f"{photo.name}, {size[0]}x{size[1]}, {photo.stat().st_size:,} bytes; Pillow {PIL.__version__} "
          f"(libjpeg-turbo {features.version('libjpeg_turbo')}), torchvision {torchvision.__version__}")
    print("| images a second on one core | densenet-zoo | Pillow and torchvision | ratio |")
    print("|---|--:|--:|--:|")
    print(f"| decode, resize, crop, normalise | {mine:.0f} | {other:.0f} | {mine / other:.2f} |")
