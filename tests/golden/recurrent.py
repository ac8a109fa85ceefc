"""Recurrent networks: PyTorch's, Keras's with masks, and ONNX's node tests, in Mica's layout and order of gates. The
last two compute in float32: what is stored of them is the definition in float64, equal to theirs within 1e-5."""

import os

os.environ["KERAS_BACKEND"] = "torch"  # before keras is imported

import keras
import numpy as np
import onnx
import torch
from onnx.backend.test.case.node import collect_testcases

from generate import Family, as_input

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def store(family, case, op, args, inputs, outputs):
    """y is what the op gives along time: [y, h, c]; gradients are those of sum(y * dy)."""
    y = torch.cat([outputs[0]] + [state[:, None] for state in outputs[1:]], dim=1)
    dy = as_input(family.rng(case + "/dy").uniform(-1, 1, tuple(y.shape)))
    names = [name for name, value in inputs.items() if value.requires_grad]
    gradients = torch.autograd.grad(y, [inputs[name] for name in names], dy)
    family.store(case, op, args, inputs | {"dy": dy}, {"y": y} | {f"d{n}": g for n, g in zip(names, gradients)})


def drawn(rng, *shape, scale=1.0):
    return as_input(rng.uniform(-scale, scale, shape)).requires_grad_()


def in_order(kernel, order, h):
    """Columns [.., G*h] with the blocks of gates put into `order`."""
    return torch.cat([kernel[..., i * h : (i + 1) * h] for i in order], dim=-1)


def pytorch(family):
    for op, activation in (("rnn", "tanh"), ("rnn", "relu"), ("lstm", ""), ("gru", "")):
        for b, t, f, h in ((2, 3, 4, 5), (1, 1, 1, 1), (3, 7, 2, 17), (5, 4, 33, 8), (2, 9, 3, 40)):
            for variant in ("plain", "states_reverse", "no_bias"):
                if variant != "plain" and (b, t) not in ((2, 3), (3, 7)):
                    continue
                case = f"pytorch_{op}{activation}_{b}x{t}x{f}x{h}_{variant}"
                rng, width = family.rng(case), GATES[op] * h
                inputs = {
                    "x": drawn(rng, b, t, f),
                    "kernel": drawn(rng, f, width),
                    "recurrent_kernel": drawn(rng, h, width, scale=h**-0.5),  # states that do not blow up
                }
                if variant != "no_bias":
                    inputs["bias"] = drawn(rng, width)
                    if op == "gru":
                        inputs["recurrent_bias"] = drawn(rng, width)
                reverse = variant == "states_reverse"
                if reverse:
                    inputs["h"] = drawn(rng, b, h)
                    if op == "lstm":
                        inputs["c"] = drawn(rng, b, h)
                module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[op]
                options = {"nonlinearity": activation} if activation else {}
                network = module(f, h, batch_first=True, bias=variant != "no_bias", dtype=torch.float64, **options)
                order = (1, 0, 2) if op == "gru" else range(GATES[op])  # ours is z, r, n; PyTorch's r, z, n
                weights = {
                    "weight_ih_l0": in_order(inputs["kernel"], order, h).T,
                    "weight_hh_l0": in_order(inputs["recurrent_kernel"], order, h).T,
                }
                if variant != "no_bias":
                    weights["bias_ih_l0"] = in_order(inputs["bias"], order, h)
                    other = inputs.get("recurrent_bias")
                    weights["bias_hh_l0"] = torch.zeros(width, dtype=torch.float64) if other is None else in_order(other, order, h)
                states = [inputs[name][None] for name in ("h", "c") if name in inputs]
                state = tuple(states) if len(states) == 2 else states[0] if states else None
                x = inputs["x"].flip(1) if reverse else inputs["x"]
                y, last = torch.func.functional_call(network, weights, (x, state))
                last = [v[0] for v in last] if op == "lstm" else [last[0]]
                outputs = [y.flip(1) if reverse else y] + last
                store(family, case, op, {"activation": activation, "reverse": reverse}, inputs, outputs)


def by_hand(op, inputs, reset_after=True, reverse=False):
    """The definitions of include/mica/ops/recurrent.h, step by step: y, h and, of lstm, c."""
    x, u = inputs["x"], inputs["recurrent_kernel"]
    (b, steps), n = x.shape[:2], u.shape[0]
    nothing = torch.zeros(b, n, dtype=torch.float64)
    mask = inputs.get("mask", torch.ones(b, steps)).bool()
    h, c = inputs.get("h", nothing), inputs.get("c", nothing)
    ys = [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        z, a = x[:, t] @ inputs["kernel"] + inputs.get("bias", 0), h @ u + inputs.get("recurrent_bias", 0)
        next_c = c
        if op == "rnn":
            next_h = torch.tanh(z + a)
        elif op == "lstm":
            i, f, g, o = (z + a).split(n, dim=1)
            next_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            next_h = torch.sigmoid(o) * torch.tanh(next_c)
        else:
            update, reset = torch.sigmoid(z[:, :n] + a[:, :n]), torch.sigmoid(z[:, n : 2 * n] + a[:, n : 2 * n])
            of_h = reset * a[:, 2 * n :] if reset_after else (reset * h) @ u[:, 2 * n :]
            next_h = update * h + (1 - update) * torch.tanh(z[:, 2 * n :] + of_h)
        h, c = (torch.where(mask[:, t : t + 1], after, before) for after, before in ((next_h, h), (next_c, c)))
        ys[t] = h
    return [torch.stack(ys, dim=1), h] + ([c] if op == "lstm" else [])


def check(ours, theirs):
    np.testing.assert_allclose(ours.detach(), torch.as_tensor(theirs).detach(), rtol=1e-5, atol=1e-5)


def with_keras(family):
    for op, reset_after in (("rnn", True), ("lstm", True), ("gru", True), ("gru", False)):
        for variant in ("plain", "masked", "masked_backwards"):
            case = f"keras_{op}{'' if reset_after else '_reset_before'}_{variant}"
            b, t, f, h = 5, 6, 3, 7
            rng, width = family.rng(case), GATES[op] * h
            two, reverse = op == "gru" and reset_after, variant == "masked_backwards"
            inputs = {
                "x": drawn(rng, b, t, f),
                "kernel": drawn(rng, f, width),
                "recurrent_kernel": drawn(rng, h, width),
                "bias": drawn(rng, width),
            }
            if two:  # Keras's bias has two rows
                inputs["recurrent_bias"] = drawn(rng, width)
            arguments = {}
            if variant == "plain":
                inputs |= {name: drawn(rng, b, h) for name in (("h", "c") if op == "lstm" else ("h",))}
                arguments["initial_state"] = [inputs[n].float() for n in ("h", "c") if n in inputs]
            else:
                mask = rng.integers(0, 2, (b, t))
                mask[0], mask[1], mask[2] = 0, 1, [1, 1, 1, 0, 0, 0]  # nothing; everything; padding
                inputs["mask"] = torch.as_tensor(mask.astype(np.uint8))
                arguments["mask"] = inputs["mask"].bool()
            make = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[op]
            options = {"reset_after": reset_after} if op == "gru" else {}
            layer = make(h, return_sequences=True, return_state=True, go_backwards=reverse, **options)
            layer.build((b, t, f))
            bias = torch.stack([inputs["bias"], inputs["recurrent_bias"]]) if two else inputs["bias"]
            layer.set_weights([v.detach().numpy() for v in (inputs["kernel"], inputs["recurrent_kernel"], bias)])
            outputs = by_hand(op, inputs, reset_after, reverse)
            theirs = layer(inputs["x"].float(), **arguments)
            theirs = [theirs[0].flip(1) if reverse else theirs[0], *theirs[1:]]
            for value, expected in zip(outputs, theirs, strict=True):
                check(value, expected)
            store(family, case, op, {"reset_after": reset_after, "reverse": reverse}, inputs, outputs)


def with_onnx(family):
    for test in collect_testcases():
        node = test.model.graph.node[0]
        op = node.op_type.lower()
        named = dict(zip(filter(None, node.input), test.data_sets[0][0]))
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if test.kind != "node" or op not in GATES or "P" in named or attributes.get("direction", b"forward") != b"forward":
            continue  # peepholes
        h, batchwise = attributes["hidden_size"], attributes.get("layout", 0) == 1
        order = (0, 2, 3, 1) if op == "lstm" else range(GATES[op])  # ONNX's are i, o, f, c; z, r, h as ours
        kernel = lambda v: in_order(as_input(v[0]).T, order, h)
        x = as_input(named["X"])
        inputs = {
            "x": x if batchwise else x.transpose(0, 1),
            "kernel": kernel(named["W"]),
            "recurrent_kernel": kernel(named["R"]),
        }
        if "B" in named:  # of W and of R; without linear_before_reset they add up
            of_w, of_r = as_input(named["B"][0]).split(GATES[op] * h)
            inputs["bias"] = as_input(in_order(of_w + of_r, order, h))
        reset_after = attributes.get("linear_before_reset", 0) == 1
        inputs = {name: value.requires_grad_() for name, value in inputs.items()}
        outputs = by_hand(op, inputs, reset_after)
        for name, value in zip(filter(None, node.output), test.data_sets[0][1]):
            ours = outputs[1] if name == "Y_h" else outputs[0] if batchwise else outputs[0].transpose(0, 1)
            check(ours, value.reshape(ours.shape))
        store(family, "onnx_" + test.name.removeprefix("test_"), op, {"reset_after": reset_after}, inputs, outputs)


def make_all():
    family = Family("recurrent")
    pytorch(family)
    with_keras(family)
    with_onnx(family)
    family.write()
