"""Mica's MNIST training step beside PyTorch's, interleaved on this machine with the same number of threads.

  python3 -m venv venv && venv/bin/pip install -r benchmarks/compare/requirements.txt
  make bench && venv/bin/python benchmarks/compare/compare.py build/bench/benchmarks/mnist_step
"""
import argparse
import statistics
import subprocess
import sys
import time

PYTORCH = "--pytorch-step"


def pytorch_step(threads, rounds):
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer, loss = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
    x, y = torch.rand(128, 1, 28, 28), torch.zeros(128, dtype=torch.int64)
    best = 1e9
    for r in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(5):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        if r > 0:
            best = min(best, time.perf_counter() - start)
    print(f"{5 * 128 / best:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist_step", help="the program built by make bench")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    numbers = str(args.threads), str(args.rounds)
    mica, pytorch = [], []
    for _ in range(args.pairs):
        mica.append(float(subprocess.check_output([args.mnist_step, *numbers])))
        pytorch.append(float(subprocess.check_output([sys.executable, __file__, PYTORCH, *numbers])))
    ratios = [a / b for a, b in zip(mica, pytorch)]
    print(f"images/s, best of {args.pairs} pairs, {args.threads} threads:  Mica {max(mica):,.0f}   PyTorch {max(pytorch):,.0f}")
    print(f"Mica / PyTorch, pair by pair: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == PYTORCH:
        pytorch_step(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
