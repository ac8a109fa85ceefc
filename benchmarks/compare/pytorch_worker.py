"""PyTorch: training steps and prediction, eager and compiled."""
import worker

import numpy as np
import torch
from torch import nn


class Characters(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(96, 128), layer(128, 256, batch_first=True)
        self.head = nn.Linear(256, 96)

    def forward(self, x):
        return self.head(self.layer(self.embedding(x))[0])


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(5000, 128), nn.Parameter(torch.zeros(128, 128))
        block = lambda: nn.TransformerEncoderLayer(128, 4, 512, dropout=0, norm_first=True, batch_first=True)
        self.blocks, self.norm, self.head = nn.Sequential(block(), block()), nn.LayerNorm(128), nn.Linear(128, 4)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.embedding(x) + self.positions)).mean(1))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10))


def mlp():
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))


# From a batch to logits, classes last.
NETWORKS = {"cnn": cnn, "rnn": lambda: Characters(nn.RNN), "lstm": lambda: Characters(nn.LSTM), "attention": Classifier,
            "mlp": mlp}


def linear(layer, w, name):
    return {f"{layer}.weight": w[f"{name}.kernel"].T, f"{layer}.bias": w[f"{name}.bias"]}


def state_of(workload, w):
    """Mica's weights under PyTorch's names, in its layouts."""
    if workload == "cnn":
        # The dense layer's features come flattened channel by channel, not pixel by pixel.
        features = w["dense.kernel"].reshape(5, 5, 64, 128).transpose(2, 0, 1, 3).reshape(1600, 128)
        return {"0.weight": w["conv2d.kernel"].transpose(3, 2, 0, 1), "0.bias": w["conv2d.bias"],
                "3.weight": w["conv2d_1.kernel"].transpose(3, 2, 0, 1), "3.bias": w["conv2d_1.bias"],
                "7.weight": features.T, "7.bias": w["dense.bias"], **linear("9", w, "dense_1")}
    if workload == "mlp":
        return {**linear("0", w, "dense"), **linear("2", w, "dense_1"), **linear("4", w, "dense_2")}
    if workload == "attention":
        state = {"embedding.weight": w["embedding.table"], "positions": w["position_embedding.table"],
                 "norm.weight": w["layer_norm.gamma"], "norm.bias": w["layer_norm.beta"], **linear("head", w, "dense")}
        for i, name in enumerate(("transformer_encoder_layer", "transformer_encoder_layer_1")):
            block = f"blocks.{i}"
            state[f"{block}.self_attn.in_proj_weight"] = w[f"{name}.attention.qkv.kernel"].T
            state[f"{block}.self_attn.in_proj_bias"] = w[f"{name}.attention.qkv.bias"]
            state.update(linear(f"{block}.self_attn.out_proj", w, f"{name}.attention.output"))
            state.update(linear(f"{block}.linear1", w, f"{name}.feed_forward.inner"))
            state.update(linear(f"{block}.linear2", w, f"{name}.feed_forward.outer"))
            for norm, part in (("norm1", "attention_residual"), ("norm2", "feed_forward_residual")):
                state[f"{block}.{norm}.weight"] = w[f"{name}.{part}.norm.gamma"]
                state[f"{block}.{norm}.bias"] = w[f"{name}.{part}.norm.beta"]
        return state
    # PyTorch adds a second bias, which begins with zeros and has the first one's gradient: see training().
    return {"embedding.weight": w["embedding.table"], "layer.weight_ih_l0": w[f"{workload}.kernel"].T,
            "layer.weight_hh_l0": w[f"{workload}.recurrent_kernel"].T, "layer.bias_ih_l0": w[f"{workload}.bias"],
            "layer.bias_hh_l0": np.zeros_like(w[f"{workload}.bias"]), **linear("head", w, "dense")}


def network(workload, mode, w=None):
    model = NETWORKS[workload]()
    if w is not None:
        state = state_of(workload, w)
        model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(state[name])) for name in state})
    if workload in ("rnn", "lstm"):
        # The networks have one bias for each gate: the second stays zero.
        nn.init.zeros_(model.layer.bias_hh_l0)
        model.layer.bias_hh_l0.requires_grad_(False)
    if "channels_last" in mode:
        model = model.to(memory_format=torch.channels_last)
    return model


def batch(workload, mode, w):
    x, y = torch.from_numpy(w["x"]), torch.from_numpy(w["y"])
    if workload == "cnn" or workload == "predict":
        x, y = x.permute(0, 3, 1, 2).contiguous(), y.argmax(-1)
    if "channels_last" in mode:
        x = x.contiguous(memory_format=torch.channels_last)
    return x, y


def trainer(workload, mode, w, x, y):
    """A function that trains one step."""
    model = network(workload, mode, w)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], eps=1e-8, fused=True)

    def loss_of(x, y):
        logits = model(x)
        if workload == "mlp":
            return nn.functional.binary_cross_entropy_with_logits(logits, y)
        return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten())

    if "compiled" in mode:
        loss_of = torch.compile(loss_of, mode="max-autotune-no-cudagraphs" if "autotuned" in mode else None)

    def step():
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def predictor(mode, w, x):
    model = nn.Sequential(*network("cnn", mode, w), nn.Softmax(-1)).eval()
    cases, results, expected = {}, [], []
    if "compiled" in mode:
        torch._inductor.config.freezing = True  # the weights do not change
        model = torch.compile(model, dynamic=False, mode="max-autotune-no-cudagraphs" if "autotuned" in mode else None)
    layout = torch.channels_last if "channels_last" in mode else torch.contiguous_format
    for n in (1, 128, 1024):
        images = x[:n].contiguous(memory_format=layout)

        def run(count, images=images):
            with torch.inference_mode():
                for _ in range(count):
                    result = model(images)
            return result

        results.append(run(1).numpy())
        expected.append(w["expected"][:n])
        cases[str(n)] = run
    return cases, {"difference": worker.largest_difference(results, expected)}


def set_threads(threads):
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


def prepare(workload, mode, threads, w):
    set_threads(threads)
    x, y = batch(workload, mode, w)
    if workload == "predict":
        return predictor(mode, w, x)
    return worker.training_case(trainer(workload, mode, w, x, y))


def first_step(workload, mode, threads):
    set_threads(threads)
    x, y = torch.rand(128, 1, 28, 28), torch.randint(10, (128,))
    return trainer(workload, mode, None, x, y)()


if __name__ == "__main__":
    worker.serve(prepare, first_step)
