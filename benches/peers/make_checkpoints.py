"""Writes DenseNet-161 with random weights, the same in each file: torchvision's state dict in both forms of torch.save, and
the network as Torch7 kept it.

usage: make_checkpoints.py FOLDER
"""

import sys
from pathlib import Path

import torch
import torchvision

import t7

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(161)
weights = torchvision.models.densenet161(weights=None).state_dict()
torch.save(weights, folder / "densenet161_zip.pth")
torch.save(weights, folder / "densenet161_legacy.pth", _use_new_zipfile_serialization=False)
with (folder / "densenet161.t7").open("wb") as out:
    t7.write(t7.network(weights, (6, 12, 36, 24)), out)
