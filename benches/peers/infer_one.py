"""Runs one peer and prints its median latency and the process's peak memory, as densenet-zoo's `bench --format json` does.

usage: infer_one.py onnxruntime|openvino|openvino-streams|torch|torch-last|idle FOLDER BATCH THREADS SECONDS [f32|bf16]

`openvino-streams` runs the images of a batch one by one, as many at once as OpenVINO's throughput mode wants; `idle` runs
nothing, and its memory is what Python and numpy take.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy

peer, folder, batch, threads, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
precision = sys.argv[6] if len(sys.argv) > 6 else "f32"
network = json.loads((folder / "network.json").read_text())
side = network["side"]
images = numpy.random.default_rng(0).standard_normal((batch, 3, side, side), dtype=numpy.float32)

if peer == "onnxruntime":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "network.onnx", options, providers=["CPUExecutionProvider"])
    run = lambda: session.run(None, {"x": images})
elif peer in ("openvino", "openvino-streams"):
    import openvino

    streams = peer == "openvino-streams"
    core = openvino.Core()
    model = core.read_model(folder / "network.onnx")
    model.reshape([1 if streams else batch, 3, side, side])
    hint = "THROUGHPUT" if streams else "LATENCY"
    properties = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", properties)
    if streams:
        queue = openvino.AsyncInferQueue(compiled)

        def run():
            for image in range(batch):
                queue.start_async({0: images[image : image + 1]})
            queue.wait_all()

    else:
        request = compiled.create_infer_request()
        run = lambda: request.infer({0: images})
elif peer in ("torch", "torch-last"):
    import torch
    from networks import network as make
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    module = make(network["name"]).eval()
    module.load_state_dict(load_file(folder / "network.safetensors"))
    x = torch.from_numpy(images)
    if peer == "torch-last":
        module, x = module.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    run = torch.inference_mode()(lambda: module(x))
else:
    run = lambda: time.sleep(0.01)

warm = time.perf_counter()
while time.perf_counter() - warm < 0.1 * seconds:
    run()
times, start = [], time.perf_counter()
while time.perf_counter() - start < seconds or len(times) < 3:
    at = time.perf_counter()
    run()
    times.append(time.perf_counter() - at)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) / 1024
print(json.dumps([{"median_ms": 1e3 * statistics.median(times), "peak_mib": peak}]))
