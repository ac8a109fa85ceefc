#!/usr/bin/env python3
"""MNIST for three seeds on the GPU and on the CPU: the accuracies' means may differ by 0.2 points.

    tools/gpu_accuracy.py build/gpu/examples/mnist [--device cuda] [--epochs N]
"""
import argparse
import re
import statistics
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--device", default="cuda")
parser.add_argument("--epochs", default="10")
arguments = parser.parse_args()

SEEDS = 1, 2, 3
LARGEST_DIFFERENCE = 0.002


def train(device, seed):
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as saved:
        run = subprocess.run([arguments.program, "--device", device, "--seed", str(seed), "--epochs", arguments.epochs,
                              "--save", saved.name], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{device}, seed {seed}: {run.stderr}")
    return (float(re.search(r"test accuracy ([0-9.]+)", run.stdout)[1]),
            float(re.search(r"Trained in ([0-9.]+) s", run.stdout)[1]))


means = []
for device in ("cpu", arguments.device):
    accuracies, seconds = zip(*(train(device, seed) for seed in SEEDS))
    means.append(statistics.mean(accuracies))
    print(f"mnist on {device}: accuracies {' '.join(f'{a:.4f}' for a in accuracies)}, mean {means[-1]:.4f}, "
          f"{min(seconds):.1f} s", flush=True)
if abs(means[0] - means[1]) > LARGEST_DIFFERENCE:
    sys.exit(f"the means differ by {100 * abs(means[0] - means[1]):.2f} points")
