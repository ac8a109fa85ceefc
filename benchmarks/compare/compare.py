"""Mica's training steps beside PyTorch's, interleaved on this machine with the same number of threads: the MNIST network, a
character LSTM, a simple RNN of the same sizes, and a classifier of texts by attention (benchmarks/networks.h).

  python3 -m venv venv && venv/bin/pip install -r benchmarks/compare/requirements.txt
  make bench && venv/bin/python benchmarks/compare/compare.py build/bench/benchmarks/training_step
"""
import argparse
import statistics
import subprocess
import sys
import time

PYTORCH = "--pytorch-step"
NETWORKS = {"mnist": "images", "char_lstm": "tokens", "char_rnn": "tokens", "attention": "tokens"}


def pytorch_network(name):
    """A model from a batch to logits, with classes last, and the batch."""
    import torch
    from torch import nn

    class Characters(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.embedding, self.layer, self.head = nn.Embedding(96, 128), layer(128, 256, batch_first=True), nn.Linear(256, 96)

        def forward(self, x):
            return self.head(self.layer(self.embedding(x))[0])

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.positions = nn.Embedding(5000, 128), nn.Parameter(torch.randn(128, 128))
            block = lambda: nn.TransformerEncoderLayer(128, 4, 512, dropout=0, norm_first=True, batch_first=True)
            self.blocks = nn.Sequential(block(), block(), nn.LayerNorm(128))
            self.head = nn.Linear(128, 4)

        def forward(self, x):
            return self.head(self.blocks(self.embedding(x) + self.positions).mean(1))

    if name == "mnist":
        model = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10))
        return model, torch.rand(128, 1, 28, 28), torch.zeros(128, dtype=torch.int64), 128
    if name == "attention":
        return Classifier(), torch.randint(5000, (32, 128)), torch.randint(4, (32,)), 32 * 128
    layer = {"char_lstm": nn.LSTM, "char_rnn": nn.RNN}[name]
    return Characters(layer), torch.randint(96, (32, 64)), torch.randint(96, (32, 64)), 32 * 64


def pytorch_step(name, threads, rounds):
    import torch

    torch.set_num_threads(threads)
    model, x, y, units = pytorch_network(name)
    optimizer, loss = torch.optim.Adam(model.parameters()), torch.nn.CrossEntropyLoss()
    best = 1e9
    for r in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(5):
            optimizer.zero_grad()
            loss(model(x).flatten(0, -2), y.flatten()).backward()
            optimizer.step()
        if r > 0:
            best = min(best, time.perf_counter() - start)
    print(f"{5 * units / best:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training_step", help="the program built by make bench")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    print(f"units a second, best of {args.pairs} pairs, {args.threads} threads; ratios pair by pair")
    print(f"{'network':12}{'unit':>8}{'Mica':>12}{'PyTorch':>12}{'median ratio':>14}{'least':>8}{'most':>8}")
    for network in args.networks:
        numbers = network, str(args.threads), str(args.rounds)
        mica, pytorch = [], []
        for _ in range(args.pairs):
            mica.append(float(subprocess.check_output([args.training_step, *numbers])))
            pytorch.append(float(subprocess.check_output([sys.executable, __file__, PYTORCH, *numbers])))
        ratios = [a / b for a, b in zip(mica, pytorch)]
        print(f"{network:12}{NETWORKS[network]:>8}{max(mica):>12,.0f}{max(pytorch):>12,.0f}{statistics.median(ratios):>14.2f}"
              f"{min(ratios):>8.2f}{max(ratios):>8.2f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == PYTORCH:
        pytorch_step(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
