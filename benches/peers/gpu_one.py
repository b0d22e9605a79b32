"""Runs or trains DenseNet-121 in torch and prints images a second of the median run, and the memory in MiB: what is taken of the card, or the process's peak.

usage: gpu_one.py cuda|cpu infer|train f32|tf32|f16|bf16 BATCH SIZE eager|compiled|efficient SECONDS

Half types by autocast, channels last, TF32 only where it is asked for. `efficient` is torchvision's memory_efficient=True.
"""

import resource
import statistics
import sys
import time

import torch
import torchvision

device, mode, precision, batch, size, way, seconds = sys.argv[1:]
batch, size, seconds = int(batch), int(size), float(seconds)
dtype = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[precision]
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
torch.backends.cudnn.benchmark = True

network = torchvision.models.densenet121(weights=None, memory_efficient=way == "efficient")
network = network.to(device, memory_format=torch.channels_last).train(mode == "train")
images = torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
labels = torch.arange(batch, device=device) * 7919 % 1000
optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4)
scaler = torch.amp.GradScaler(device, enabled=precision == "f16" and mode == "train")
run = torch.compile(network) if way == "compiled" else network
half = torch.autocast(device, dtype, enabled=dtype != torch.float32)


def infer():
    with torch.inference_mode(), half:
        run(images).float().cpu()


def train():
    optimiser.zero_grad()
    with half:
        loss = torch.nn.functional.cross_entropy(run(images), labels)
    scaler.scale(loss).backward()
    scaler.step(optimiser)
    scaler.update()
    loss.item()


work = infer if mode == "infer" else train
for _ in range(3):
    work()
times, start = [], time.perf_counter()
while time.perf_counter() - start < seconds or len(times) < 3:
    at = time.perf_counter()
    work()
    times.append(time.perf_counter() - at)
if device == "cuda":
    free, total = torch.cuda.mem_get_info()
    memory = (total - free) / 2**20
else:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(batch / statistics.median(times), memory)
