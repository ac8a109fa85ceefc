"""How the samples of PyTorch's ModuleInfos read as Mica's layers and losses: the samples of the functions, with the
parameters that the module has."""

import torch
from opinfo_cases import FAMILIES, Case, Samples, left_out_if
from torch.testing._internal.common_modules import module_db

PARAMETERS = {"w": "kernel", "b": "bias", "table": "table", "gamma": "gamma", "beta": "beta"}


def run(m):
    """The module as a function of its input, weight and bias."""

    def call(x, weight=None, bias=None, *attributes, **more):
        given = {"weight": weight, "bias": bias}
        return torch.func.functional_call(m, {n: v for n, v in given.items() if v is not None}, (x,))

    return call


def as_layer(layer, case, args=None, sequence=False):
    """A function's case under the layer's name and with its parameters' names; images of one row as sequences."""
    names = {n: PARAMETERS.get(n, n) for n in case.inputs}
    shorter = {"x": 1, "w": 0} if sequence else {}
    inputs = {names[n]: v.squeeze(shorter[n]) if n in shorter else v for n, v in case.inputs.items()}

    def forward(*xs):
        xs = [x.unsqueeze(shorter[n]) if n in shorter else x for n, x in zip(case.inputs, xs)]
        y = case.forward(*xs)
        return y.squeeze(1) if sequence else y

    return Case(layer, case.args if args is None else args, inputs, forward, [names[n] for n in case.differentiable])


def convolution(layer, function, sequence=False):
    def translate(m, x):
        case = FAMILIES["image"][function](run(m), x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)
        args = case.args | {"filters": m.out_channels, "kernel": list(case.inputs["w"].shape[:2])}
        return as_layer(layer, case, args, sequence)

    return translate


def transposed_convolution(m, x):
    case = FAMILIES["image"]["nn.functional.conv_transpose2d"](
        run(m), x, m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation)
    return as_layer("Conv2DTranspose", case, case.args | {"filters": m.out_channels, "kernel": list(m.kernel_size)})


def pool(layer, function, sequence=False):
    def translate(m, x):
        more = {"count_include_pad": m.count_include_pad} if "avg" in function else {"dilation": m.dilation}
        call = lambda x, *attributes, **given: m(x)
        case = FAMILIES["image"][function](call, x, m.kernel_size, m.stride, m.padding, ceil_mode=m.ceil_mode, **more)
        return as_layer(layer, case, sequence=sequence)

    return translate


def global_pool(layer, function, sequence=False):
    def translate(m, x):
        sizes = m.output_size if isinstance(m.output_size, tuple) else (m.output_size,)
        left_out_if(set(sizes) != {1}, "adaptive windows")
        case = FAMILIES["image"][function](lambda x, *attributes: m(x), x, m.output_size)
        layout = as_layer(layer, case, {}, sequence)
        return Case(layer, {}, layout.inputs, lambda x: layout.forward(x).flatten(1))

    return translate


def linear(m, x):
    case = FAMILIES["matmul"]["nn.functional.linear"](run(m), x, m.weight, m.bias)
    return as_layer("Dense", case, {"units": m.out_features})


def embedding(m, tokens):
    return Case("Embedding", {"tokens": m.num_embeddings, "size": m.embedding_dim}, {"x": tokens, "table": m.weight},
                lambda tokens, table: torch.func.functional_call(m, {"weight": table}, (tokens,)))


def layer_norm(m, x):
    call = lambda x, shape, weight, bias, eps: run(m)(x, weight, bias)
    case = FAMILIES["norm"]["nn.functional.layer_norm"](call, x, m.normalized_shape, m.weight, m.bias, m.eps)
    return as_layer("LayerNorm", case)


def batch_norm(m, x):
    """Of the running statistics after a step Mica's variance divides by n."""
    left_out_if(not m.track_running_stats, "no running statistics")
    left_out_if(m.momentum is None, "running statistics that are plain means")
    for buffer in (m.running_mean, m.running_var):
        buffer.uniform_(0.5, 2)
    before = {"moving_mean": m.running_mean.double().clone(), "moving_variance": m.running_var.double().clone()}
    inputs = {"x": x.movedim(1, -1), "gamma": m.weight, "beta": m.bias} | before
    count = x.numel() // max(x.shape[1], 1)

    def forward(x, *rest):
        given = dict(zip([n for n, v in inputs.items() if v is not None], (x, *rest)))
        state = {n: given[k] for n, k in (("weight", "gamma"), ("bias", "beta")) if k in given}
        state |= {"running_mean": before["moving_mean"].clone(), "running_var": before["moving_variance"].clone()}
        y = torch.func.functional_call(m, state, (x.movedim(-1, 1),)).movedim(1, -1)
        if not m.training:
            return y
        kept = before["moving_variance"] * (1 - m.momentum)
        variance = kept + (state["running_var"] - kept) * (count - 1) / count if count else state["running_var"]
        return {"y": y, "new_moving_mean": state["running_mean"], "new_moving_variance": variance}

    args = {"epsilon": m.eps, "momentum": 1 - m.momentum, "training": m.training}
    return Case("BatchNorm", args, inputs, forward, ["x", "gamma", "beta"])


def zero_padding(m, x):
    left_out_if(x.dim() != 4, "one image without a batch")
    left, right, top, bottom = m.padding
    layout = lambda t: t.permute(0, 2, 3, 1)
    return Case("ZeroPadding2D", {"rows": [top, bottom], "columns": [left, right]}, {"x": layout(x)},
                lambda x: layout(m(x.permute(0, 3, 1, 2))))


def activation(name, **parameters):
    """With its usual parameters; over the last axis, if over one."""

    def translate(m, x):
        for parameter, usual in parameters.items():
            left_out_if(getattr(m, parameter) != usual, f"{parameter} other than {usual}, which Mica's activation has")
        dim = -3 if isinstance(m, torch.nn.Softmax2d) else getattr(m, "dim", None)
        left_out_if(dim is not None and x.dim() == 0, "an axis of a scalar")
        args = {"activation": name}
        if dim is None:
            return Case("Activation", args, {"x": x}, m)
        return Case("Activation", args, {"x": x.movedim(dim, -1)}, lambda x: m(x.movedim(-1, dim)).movedim(dim, -1))

    return translate


def loss(function, *attributes):
    def translate(m, x, target):
        call = lambda x, target, **given: m(x, target)
        return FAMILIES["loss"][function](call, x, target, **{a: getattr(m, a) for a in attributes})

    return translate


LAYERS = {
    "nn.Linear": linear, "nn.Embedding": embedding, "nn.LayerNorm": layer_norm, "nn.ZeroPad2d": zero_padding,
    "nn.ConvTranspose2d": transposed_convolution, "nn.LazyConvTranspose2d": transposed_convolution,
    "nn.ReLU": activation("relu"), "nn.Sigmoid": activation("sigmoid"), "nn.SiLU": activation("silu"),
    "nn.Tanh": activation("tanh"), "nn.GELU": activation("gelu", approximate="none"),
    "nn.Softmax": activation("softmax"), "nn.Softmax2d": activation("softmax"),
    "nn.LogSoftmax": activation("log_softmax"),
    "nn.Softplus": activation("softplus", beta=1.0), "nn.ELU": activation("elu", alpha=1.0),
    "nn.LeakyReLU": activation("leaky_relu", negative_slope=0.01),
    "nn.MaxPool1d": pool("MaxPool1D", "nn.functional.max_pool1d", True),
    "nn.MaxPool2d": pool("MaxPool2D", "nn.functional.max_pool2d"),
    "nn.AvgPool1d": pool("AveragePool1D", "nn.functional.avg_pool1d", True),
    "nn.AvgPool2d": pool("AveragePool2D", "nn.functional.avg_pool2d"),
    "nn.AdaptiveAvgPool1d": global_pool("GlobalAveragePool1D", "nn.functional.adaptive_avg_pool1d", True),
    "nn.AdaptiveAvgPool2d": global_pool("GlobalAveragePool2D", "nn.functional.adaptive_avg_pool2d"),
    "nn.AdaptiveMaxPool1d": global_pool("GlobalMaxPool1D", "nn.functional.adaptive_max_pool1d", True),
    "nn.AdaptiveMaxPool2d": global_pool("GlobalMaxPool2D", "nn.functional.adaptive_max_pool2d"),
} | {f"nn.BatchNorm{n}d": batch_norm for n in (1, 2, 3)} | {
    f"nn.{lazy}Conv{n}d": convolution(f"Conv{n}D", f"nn.functional.conv{n}d", n == 1)
    for lazy in ("", "Lazy")
    for n in (1, 2)
}
LOSSES = {
    "nn.MSELoss": loss("nn.functional.mse_loss", "reduction"),
    "nn.L1Loss": loss("nn.functional.l1_loss", "reduction"),
    "nn.HuberLoss": loss("nn.functional.huber_loss", "reduction", "delta"),
    "nn.SmoothL1Loss": loss("nn.functional.smooth_l1_loss", "reduction", "beta"),
    "nn.BCELoss": loss("nn.functional.binary_cross_entropy", "reduction", "weight"),
    "nn.BCEWithLogitsLoss": loss("nn.functional.binary_cross_entropy_with_logits", "reduction", "weight", "pos_weight"),
    "nn.CrossEntropyLoss": loss(
        "nn.functional.cross_entropy", "reduction", "weight", "ignore_index", "label_smoothing"),
}


def write_modules(same_numbers_for):
    """Layers and losses, as they train and as they infer; returns the names of the modules without a counterpart."""
    families = {"layers": LAYERS, "loss_modules": LOSSES}
    files = {family: Samples(family) for family in families}
    for info in module_db:
        for family, translators in families.items():
            if info.name not in translators:
                continue
            number = 0
            for training in (True, False):
                same_numbers_for(info.name)
                for sample in info.module_inputs_func(info, "cpu", torch.float32, False, training):
                    built, given = sample.constructor_input, sample.forward_input
                    xs = [*given.args, *given.kwargs.values()]

                    def translate():
                        m = info.module_cls(*built.args, **built.kwargs)
                        if "Lazy" in info.name:
                            m(*xs)
                        m.requires_grad_(False).double().train(training)
                        return translators[info.name](m, *(x.double() if x.is_floating_point() else x for x in xs))

                    files[family].add_sample(info.name, number, translate)
                    number += 1
    for file in files.values():
        file.write()
    return [info.name for info in module_db if info.name not in LAYERS | LOSSES]
