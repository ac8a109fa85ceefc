"""Attention layers and the Transformer's layers whole: PyTorch's, and Keras's attention with a head size of its own, with
Mica's names and layout of the parameters. Steps that are padding are masks of 0."""

import os

os.environ["KERAS_BACKEND"] = "torch"  # before keras is imported

import keras
import numpy as np
import torch
from torch import nn

from generate import Family, as_input


def drawn(rng, *shape, scale=1.0):
    return as_input(rng.uniform(-scale, scale, shape)).requires_grad_()


def padding(rng, batch, steps):
    """uint8 [batch, steps], at least one step of each that counts."""
    lengths = 1 + rng.integers(0, steps, batch)
    return torch.as_tensor((np.arange(steps) < lengths[:, None]).astype(np.uint8))


def store(family, case, layer, args, inputs, y):
    """Gradients are those of sum(y * dy), to x, the context and all parameters."""
    dy = as_input(family.rng(case + "/dy").uniform(-1, 1, tuple(y.shape)))
    names = [name for name, value in inputs.items() if value.requires_grad]
    gradients = torch.autograd.grad(y, [inputs[name] for name in names], dy)
    family.store(case, layer, args, inputs | {"dy": dy}, {"y": y} | {f"d{n}": g for n, g in zip(names, gradients)})


def weights(rng, names_and_shapes):
    return {name: drawn(rng, *shape, scale=1 if len(shape) == 1 else shape[0] ** -0.5) for name, shape in names_and_shapes}


def of_self_attention(c, bias=True, prefix=""):
    shapes = [("qkv.kernel", (c, 3 * c)), ("qkv.bias", (3 * c,)), ("output.kernel", (c, c)), ("output.bias", (c,))]
    return [(prefix + name, shape) for name, shape in shapes if bias or "bias" not in name]


def of_cross_attention(c, e, prefix=""):
    shapes = []
    for name, features in (("query", c), ("key", e), ("value", e), ("output", c)):
        shapes += [(f"{prefix}{name}.kernel", (features, c)), (f"{prefix}{name}.bias", (c,))]
    return shapes


def in_pytorch(w, cross, prefix=""):
    """The parameters of Mica's attention as PyTorch calls them."""
    get = lambda name: w.get(prefix + name)
    theirs = {"out_proj.weight": get("output.kernel").T, "out_proj.bias": get("output.bias")}
    if not cross:
        theirs |= {"in_proj_weight": get("qkv.kernel").T, "in_proj_bias": get("qkv.bias")}
    else:
        kernels = [get(f"{n}.kernel").T for n in ("query", "key", "value")]
        biases = [get(f"{n}.bias") for n in ("query", "key", "value")]
        theirs["in_proj_bias"] = torch.cat(biases)
        if kernels[0].shape == kernels[1].shape:
            theirs["in_proj_weight"] = torch.cat(kernels)
        else:
            theirs |= {f"{n}_proj_weight": kernel for n, kernel in zip("qkv", kernels)}
    return {name: value for name, value in theirs.items() if value is not None}


def attention(family):
    for b, t, c, heads in ((2, 3, 8, 2), (1, 1, 4, 1), (3, 7, 12, 3), (1, 70, 8, 2)):
        for variant in ("plain", "causal", "padding", "padding_causal", "no_bias"):
            if variant != "plain" and t == 1:
                continue
            case = f"self_{b}x{t}x{c}x{heads}_{variant}"
            rng, bias, causal = family.rng(case), variant != "no_bias", "causal" in variant
            inputs = {"x": drawn(rng, b, t, c)}
            if "padding" in variant:
                inputs["mask"] = padding(rng, b, t)
            w = weights(rng, of_self_attention(c, bias))
            module = nn.MultiheadAttention(c, heads, bias=bias, batch_first=True, dtype=torch.float64)
            hidden = inputs["mask"] == 0 if "mask" in inputs else None
            later = torch.ones(t, t).triu(1).bool() if causal else None
            x = inputs["x"]
            y, _ = torch.func.functional_call(module, in_pytorch(w, False), (x, x, x, hidden, False, later))
            store(family, case, "self_attention", {"heads": heads, "causal": causal, "bias": bias}, inputs | w, y)
    for b, t, s, c, e, heads in ((2, 3, 5, 8, 8, 2), (3, 4, 2, 6, 10, 3), (1, 1, 9, 4, 7, 1)):
        for variant in ("plain", "padding"):
            case = f"cross_{b}x{t}x{s}x{c}x{e}_{variant}"
            rng = family.rng(case)
            inputs = {"x": drawn(rng, b, t, c), "context": drawn(rng, b, s, e)}
            if variant == "padding":
                inputs["context_mask"] = padding(rng, b, s)
            w = weights(rng, of_cross_attention(c, e))
            module = nn.MultiheadAttention(c, heads, kdim=e, vdim=e, batch_first=True, dtype=torch.float64)
            hidden = inputs["context_mask"] == 0 if "context_mask" in inputs else None
            arguments = (inputs["x"], inputs["context"], inputs["context"], hidden, False)
            y, _ = torch.func.functional_call(module, in_pytorch(w, True), arguments)
            store(family, case, "cross_attention", {"heads": heads}, inputs | w, y)


def with_keras(family):
    """Keras computes in float32: what is stored is the definition in float64, equal to its result within 1e-5."""
    for b, t, s, c, heads, size, causal in ((2, 4, 4, 6, 2, 5, False), (2, 4, 4, 6, 3, 8, True), (2, 3, 5, 6, 2, 4, False)):
        case = f"keras_{b}x{t}x{s}x{c}_heads_of_{size}{'_causal' if causal else ''}"
        rng, cross, width = family.rng(case), t != s, heads * size
        inputs = {"x": drawn(rng, b, t, c)} | ({"context": drawn(rng, b, s, c)} if cross else {})
        x, context = inputs["x"], inputs.get("context", inputs["x"])
        inputs["context_mask" if cross else "mask"] = mask = padding(rng, b, s)
        projections = ("query", "key", "value") if cross else ("qkv",)
        columns = 3 * width // len(projections)
        w = weights(rng, [(f"{n}.kernel", (c, columns)) for n in projections] + [(f"{n}.bias", (columns,)) for n in projections]
                    + [("output.kernel", (width, c)), ("output.bias", (c,))])
        in_heads = lambda v: v.reshape(*v.shape[:-1], heads, size)
        kernels, biases = ([in_heads(v) for v in torch.cat([w[f"{n}.{part}"] for n in projections], -1).split(width, -1)]
                           for part in ("kernel", "bias"))
        layer = keras.layers.MultiHeadAttention(heads, size)
        layer.build((b, t, c), (b, s, c))
        theirs = [v for pair in zip(kernels, biases) for v in pair]
        theirs += [w["output.kernel"].reshape(heads, size, c), w["output.bias"]]
        layer.set_weights([v.detach().numpy() for v in theirs])
        q, k, v = (torch.einsum("btc,cnd->bntd", of, kernel) + bias[None, :, None]
                   for of, kernel, bias in zip((x, context, context), kernels, biases))
        seen = mask[:, None, None, :].bool() & torch.ones(t, s).tril(s - t if causal else s).bool()
        scores = (q @ k.transpose(2, 3) / size**0.5).masked_fill(~seen, -torch.inf)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, width) @ w["output.kernel"] + w["output.bias"]
        expected = layer(x.float(), context.float(), key_mask=mask.bool(), use_causal_mask=causal)
        np.testing.assert_allclose(y.detach(), expected.detach(), rtol=1e-5, atol=1e-5)
        kind = "cross_attention" if cross else "self_attention"
        store(family, case, kind, {"heads": heads, "head_size": size, "causal": causal}, inputs | w, y)


def of_the_rest(c, units, parts):
    shapes = [("feed_forward.inner.kernel", (c, units)), ("feed_forward.inner.bias", (units,)),
              ("feed_forward.outer.kernel", (units, c)), ("feed_forward.outer.bias", (c,))]
    for part in parts:
        shapes += [(f"{part}_residual.norm.gamma", (c,)), (f"{part}_residual.norm.beta", (c,))]
    return shapes


def rest_in_pytorch(w, parts):
    theirs = {}
    for ours, name in (("inner", "linear1"), ("outer", "linear2")):
        theirs[f"{name}.weight"] = w[f"feed_forward.{ours}.kernel"].T
        theirs[f"{name}.bias"] = w[f"feed_forward.{ours}.bias"]
    for i, part in enumerate(parts):
        theirs[f"norm{i + 1}.weight"] = w[f"{part}_residual.norm.gamma"]
        theirs[f"norm{i + 1}.bias"] = w[f"{part}_residual.norm.beta"]
    return theirs


def layers(family):
    sizes = ((2, 5, 8, 2, 12, "relu"), (1, 1, 4, 1, 3, "gelu"), (3, 9, 12, 3, 7, "gelu"))
    for b, t, c, heads, units, activation in sizes:
        for norm_first in (False, True):
            for variant in ("plain", "padding_causal"):
                case = f"encoder_{b}x{t}x{c}_{'pre' if norm_first else 'post'}_norm_{variant}"
                rng, causal, parts = family.rng(case), variant != "plain", ("attention", "feed_forward")
                inputs = {"x": drawn(rng, b, t, c)}
                if causal:
                    inputs["mask"] = padding(rng, b, t)
                w = weights(rng, of_self_attention(c, prefix="attention.") + of_the_rest(c, units, parts))
                module = nn.TransformerEncoderLayer(c, heads, units, 0, activation, norm_first=norm_first, batch_first=True,
                                                    dtype=torch.float64)
                theirs = {f"self_attn.{n}": v for n, v in in_pytorch(w, False, "attention.").items()}
                masks = {}
                if causal:
                    masks = {"src_mask": torch.ones(t, t).triu(1).bool(), "src_key_padding_mask": inputs["mask"] == 0}
                y = torch.func.functional_call(module, theirs | rest_in_pytorch(w, parts), inputs["x"], masks)
                args = {"heads": heads, "units": units, "activation": activation, "norm_first": norm_first, "causal": causal}
                store(family, case, "encoder", args, inputs | w, y)
    for b, t, s, c, heads, units, activation in ((2, 4, 6, 8, 2, 12, "relu"), (3, 7, 2, 6, 3, 5, "gelu")):
        for norm_first in (False, True):
            for variant in ("plain", "padding"):
                case = f"decoder_{b}x{t}x{s}x{c}_{'pre' if norm_first else 'post'}_norm_{variant}"
                rng, parts = family.rng(case), ("attention", "cross_attention", "feed_forward")
                inputs = {"x": drawn(rng, b, t, c), "context": drawn(rng, b, s, c)}
                masks = {"tgt_mask": torch.ones(t, t).triu(1).bool()}
                if variant == "padding":
                    inputs |= {"mask": padding(rng, b, t), "context_mask": padding(rng, b, s)}
                    masks |= {"tgt_key_padding_mask": inputs["mask"] == 0, "memory_key_padding_mask": inputs["context_mask"] == 0}
                w = weights(rng, of_self_attention(c, prefix="attention.") + of_cross_attention(c, c, "cross_attention.")
                            + of_the_rest(c, units, parts))
                module = nn.TransformerDecoderLayer(c, heads, units, 0, activation, norm_first=norm_first, batch_first=True,
                                                    dtype=torch.float64)
                theirs = {f"self_attn.{n}": v for n, v in in_pytorch(w, False, "attention.").items()}
                theirs |= {f"multihead_attn.{n}": v for n, v in in_pytorch(w, True, "cross_attention.").items()}
                y = torch.func.functional_call(module, theirs | rest_in_pytorch(w, parts), (inputs["x"], inputs["context"]), masks)
                args = {"heads": heads, "units": units, "activation": activation, "norm_first": norm_first}
                store(family, case, "decoder", args, inputs | w, y)


def positions(family):
    """The formula of "Attention is all you need", section 3.5, as it stands there."""
    for t, c in ((1, 2), (5, 6), (130, 8)):
        case = f"sinusoidal_{t}x{c}"
        x = drawn(family.rng(case), 1, t, c)
        position, pair = np.arange(t)[:, None], np.arange(c // 2)[None, :]
        angles = position / 10000 ** (2 * pair / c)
        table = np.empty((t, c))
        table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
        store(family, case, "sinusoidal", {}, {"x": x}, x + torch.as_tensor(table))


def make_all():
    family = Family("transformer")
    attention(family)
    with_keras(family)
    layers(family)
    positions(family)
    family.write()
