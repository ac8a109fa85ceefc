"""PyTorch's program that trains the MNIST network for an epoch, as examples/mnist does:
mnist_pytorch.py THREADS DATA."""
import gzip
import pathlib
import sys

import numpy as np
import torch
from torch import nn

from pytorch_worker import cnn


def idx(folder, name, offset):
    data = gzip.decompress((pathlib.Path(folder) / f"{name}-ubyte.gz").read_bytes())
    return np.frombuffer(data, "u1", offset=offset)


def dataset(folder, name):
    images = torch.from_numpy(idx(folder, f"{name}-images-idx3", 16).reshape(-1, 1, 28, 28).copy())
    return images, torch.from_numpy(idx(folder, f"{name}-labels-idx1", 8).astype("int64"))


def main():
    torch.set_num_threads(int(sys.argv[1]))
    images, labels = dataset(sys.argv[2], "train")
    test_images, test_labels = dataset(sys.argv[2], "t10k")
    model = cnn()
    optimizer, loss = torch.optim.Adam(model.parameters(), fused=True), nn.CrossEntropyLoss()
    # Pixels stay bytes until their batch.
    for rows in torch.randperm(len(images)).split(128):
        optimizer.zero_grad()
        loss(model(images[rows].float() / 255), labels[rows]).backward()
        optimizer.step()
    with torch.inference_mode():
        right = sum(int((model(x.float() / 255).argmax(1) == y).sum())
                    for x, y in zip(test_images.split(128), test_labels.split(128)))
    print(f"test accuracy {right / len(test_labels):.4f}")


if __name__ == "__main__":
    main()
