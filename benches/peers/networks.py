"""The networks that are measured, in torch, under torchvision's names."""

from collections import OrderedDict

import torch
from torchvision.models import DenseNet, get_model


def network(name):
    if name == "densenet264":
        return DenseNet(32, (6, 12, 64, 48), 64)
    if name == "densenet-bc-100-12":
        # CIFAR's stem is a 3x3 convolution alone.
        whole = DenseNet(12, (16, 16, 16), 24, num_classes=10)
        stem = ("conv0", "norm0", "relu0", "pool0")
        blocks = [(key, module) for key, module in whole.features.named_children() if key not in stem]
        whole.features = torch.nn.Sequential(OrderedDict([("conv0", torch.nn.Conv2d(3, 24, 3, padding=1, bias=False)), *blocks]))
        return whole
    return get_model(name, weights=None)
