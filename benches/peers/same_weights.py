"""Exit code 0 if two safetensors files hold the same weights, bit for bit.

usage: same_weights.py ONE OTHER

The batch counters are left out: inference never reads them, and a Torch7 file has none.
"""

import sys

from safetensors.numpy import load_file


def weights(path):
    return {name: tensor.tobytes() for name, tensor in load_file(path).items() if not name.endswith(".num_batches_tracked")}


if weights(sys.argv[1]) != weights(sys.argv[2]):
    sys.exit("the two files differ")
