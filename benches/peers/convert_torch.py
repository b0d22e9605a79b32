"""The conversion as Python does it: torch.load, then safetensors. Prints nothing.

usage: convert_torch.py IN OUT [--time]

--time prints the seconds of load and save alone, without starting Python and importing torch.
"""

import sys
import time

import torch
from safetensors.torch import save_file

source, target = sys.argv[1:3]
start = time.perf_counter()
weights = torch.load(source, map_location="cpu", weights_only=True)
save_file({name: tensor.contiguous() for name, tensor in weights.items()}, target)
if sys.argv[3:] == ["--time"]:
    print(time.perf_counter() - start)
