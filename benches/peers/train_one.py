"""Trains one network in torch and prints the median step in seconds, the process's peak memory and what it held before the
first step, both in MiB.

usage: train_one.py torch|torch-last|torch-efficient NETWORK BATCH THREADS SECONDS
"""

import re
import resource
import statistics
import sys
import time

import torch
import torchvision
from torch import nn
from torchvision.models.densenet import DenseNet

peer, name, batch, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
torch.manual_seed(0)
torch.set_num_threads(threads)
efficient = peer == "torch-efficient"


class PlainLayer(nn.Module):
    """A dense layer without bottleneck, which torchvision does not have."""

    def __init__(self, channels, growth_rate):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, growth_rate, 3, padding=1, bias=False)

    def forward(self, features):
        return self.conv1(nn.functional.relu(self.norm1(torch.cat(features, 1)), inplace=True))


def cifar(depth, growth_rate, bottleneck):
    layers = (depth - 4) // (6 if bottleneck else 3)
    stem = 2 * growth_rate if bottleneck else 16
    network = DenseNet(growth_rate, (layers,) * 3, stem, num_classes=10, memory_efficient=efficient)
    features = network.features
    features.conv0 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
    features.norm0 = features.relu0 = features.pool0 = nn.Identity()
    if bottleneck:
        return network
    channels = stem
    for number in (1, 2, 3):
        block = getattr(features, f"denseblock{number}")
        for layer in list(block):
            block[layer] = PlainLayer(channels, growth_rate)
            channels += growth_rate
        if number < 3:
            transition = getattr(features, f"transition{number}")
            transition.norm, transition.conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 1, bias=False)
    features.norm5, network.classifier = nn.BatchNorm2d(channels), nn.Linear(channels, 10)
    return network


small = re.fullmatch(r"densenet-((?:wide-)?bc-)?(\d+)-(\d+)", name)
if small:
    network, side, classes = cifar(int(small[2]), int(small[3]), bool(small[1])), 32, 10
else:
    network = torchvision.models.get_model(name.replace("-", ""), weights=None, memory_efficient=efficient)
    side, classes = 224, 1000
network.train()
images, labels = torch.randn(batch, 3, side, side), torch.arange(batch) * 7919 % classes
if peer == "torch-last":
    network, images = network.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)


def held():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def step():
    optimiser.zero_grad()
    nn.functional.cross_entropy(network(images), labels).backward()
    optimiser.step()


before = held()
step()
times, start = [], time.perf_counter()
while time.perf_counter() - start < seconds or len(times) < 3:
    at = time.perf_counter()
    step()
    times.append(time.perf_counter() - at)
print(statistics.median(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, before)
