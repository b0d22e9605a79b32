"""Runs one peer and prints the median latency in ms and the process's peak memory in MiB.

usage: infer_one.py onnxruntime|openvino|openvino-bf16|torch|torch-last FOLDER BATCH THREADS SECONDS
"""

import resource
import statistics
import sys
import time
from pathlib import Path

import numpy

peer, folder, batch, threads, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
images = numpy.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=numpy.float32)

if peer == "onnxruntime":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "network.onnx", options, providers=["CPUExecutionProvider"])
    run = lambda: session.run(None, {"x": images})
elif peer in ("openvino", "openvino-bf16"):
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "network.onnx")
    model.reshape([batch, 3, 224, 224])
    properties = {"INFERENCE_PRECISION_HINT": "bf16" if peer == "openvino-bf16" else "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(model, "CPU", properties).create_infer_request()
    run = lambda: request.infer({0: images})
else:
    import torch
    import torchvision
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    network = torchvision.models.get_model((folder / "name").read_text(), weights=None).eval()
    network.load_state_dict(load_file(folder / "network.safetensors"))
    x = torch.from_numpy(images)
    if peer == "torch-last":
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    run = torch.inference_mode()(lambda: network(x))

warm = time.perf_counter()
while time.perf_counter() - warm < 0.1 * seconds:
    run()
times, start = [], time.perf_counter()
while time.perf_counter() - start < seconds or len(times) < 3:
    at = time.perf_counter()
    run()
    times.append(time.perf_counter() - at)
print(1e3 * statistics.median(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
