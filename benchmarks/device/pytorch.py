"""PyTorch's side of the comparison on a GPU: the cases of mica_device.cpp, by the same names, in plain float32.

    pytorch.py result.json

Random data, buffers rotated beyond the L2 cache, TF32 off, times by CUDA events, the best of several rounds.
"""
import json
import sys

import torch
import torch.nn.functional as F

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True
DEVICE = torch.device("cuda")
ROUNDS = 5
results = {}


def rand(*shape):
    return torch.empty(*shape, device=DEVICE).uniform_(-1, 1)


def time(name, calls):
    """`calls` are the same work on different data. Their mean time, of the best round."""
    for call in calls:
        call()
    best = float("inf")
    repeats = 1
    while True:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            for call in calls:
                call()
        end.record()
        end.synchronize()
        milliseconds = begin.elapsed_time(end)
        if milliseconds > 20:
            break
        repeats *= 2
    for _ in range(ROUNDS):
        begin.record()
        for _ in range(repeats):
            for call in calls:
                call()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / repeats / len(calls))
    results[name] = best
    print(f"{name:40} {best:10.4f} ms", flush=True)


def elementwise():
    n = 64 << 20
    x, y, z = rand(n), rand(n), torch.empty(n, device=DEVICE)
    time("copy", [lambda: z.copy_(x)])
    time("relu", [lambda: torch.relu(x)])
    time("exp", [lambda: torch.exp(x)])
    time("add", [lambda: torch.add(x, y)])
    rows, row = x.view(-1, 1024), rand(1024)
    time("add_row", [lambda: torch.add(rows, row)])
    time("transpose", [lambda: x.view(8192, 8192).t().contiguous()])
    time("sum", [lambda: torch.sum(x)])
    time("sum_rows", [lambda: torch.sum(rows, 1)])
    time("sum_columns", [lambda: torch.sum(rows, 0)])
    time("softmax_1024", [lambda: torch.softmax(rows, 1)])
    time("softmax_10", [lambda: torch.softmax(x[: n // 10 * 10].view(-1, 10), 1)])
    gamma, beta = rand(1024), rand(1024)
    time("layer_norm_1024", [lambda: F.layer_norm(rows, (1024,), gamma, beta)])
    images = x.view(64, 128, 128, 64).permute(0, 3, 1, 2)  # NHWC in memory
    time("max_pool_2x2", [lambda: F.max_pool2d(images, 2)])
    p = rand(n)
    p.grad = rand(n)
    adam = torch.optim.Adam([p], fused=True)
    time("adam", [adam.step])


def matmul():
    for n in (2048, 4096, 8192):
        sets = max(1, (256 << 20) // (12 * n * n))
        operands = [(rand(n, n), rand(n, n)) for _ in range(sets)]
        for ta in (False, True):
            for tb in (False, True):
                time(f"matmul_{n}_{'T' if ta else 'N'}{'T' if tb else 'N'}",
                     [lambda a=a, b=b: torch.matmul(a.t() if ta else a, b.t() if tb else b) for a, b in operands])


# name, batch, height, width, channels, filters, window, stride, padding
CONVOLUTIONS = (
    ("mnist1", 128, 28, 28, 1, 32, 3, 1, 0),
    ("mnist2", 128, 13, 13, 32, 64, 3, 1, 0),
    ("3x3_64", 64, 56, 56, 64, 64, 3, 1, 1),
    ("3x3_256", 64, 14, 14, 256, 256, 3, 1, 1),
    ("1x1_256", 64, 28, 28, 256, 128, 1, 1, 0),
    ("3x3_128_stride2", 64, 56, 56, 128, 128, 3, 2, 1),
)


def convolution():
    for name, n, h, w, c, o, k, stride, padding in CONVOLUTIONS:
        weight = rand(o, c, k, k).contiguous(memory_format=torch.channels_last)
        sets = max(1, min(16, (256 << 20) // (4 * n * h * w * c)))
        xs = [rand(n, h, w, c).permute(0, 3, 1, 2) for _ in range(sets)]
        dy = torch.randn_like(F.conv2d(xs[0], weight, stride=stride, padding=padding))

        def gradient(x, mask):
            return torch.ops.aten.convolution_backward(dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False,
                                                       [0, 0], 1, mask)

        time(f"conv_{name}", [lambda x=x: F.conv2d(x, weight, stride=stride, padding=padding) for x in xs])
        time(f"conv_{name}_dx", [lambda x=x: gradient(x, [True, False, False]) for x in xs])
        time(f"conv_{name}_dw", [lambda x=x: gradient(x, [False, True, False]) for x in xs])


def training():
    batch = 128
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(32, 64, 3), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(1600, 128), torch.nn.ReLU(),
        torch.nn.Linear(128, 10)).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    xs = [rand(batch, 1, 28, 28) for _ in range(8)]
    labels = torch.randint(10, (batch,), device=DEVICE)

    def step(x):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()

    time("mnist_step", [lambda x=x: step(x) for x in xs])


for part in (elementwise, matmul, convolution, training):
    part()
with open(sys.argv[1], "w") as file:
    json.dump({"versions": f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}",
               "device": torch.cuda.get_device_name(), "milliseconds": results}, file, indent=1)
