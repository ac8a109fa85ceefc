"""Computes the golden vectors with PyTorch (metrics: scikit-learn) in float64 and writes them as small .safetensors
files; see README.md."""

import itertools
import json
import pathlib
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent


class Family:
    """The cases of one file."""

    def __init__(self, name):
        self.name = name
        self.cases = {}
        self.tensors = {}

    def rng(self, case):
        """Random numbers that depend on the case's name alone: a new case changes no other."""
        return np.random.default_rng(zlib.crc32(f"{self.name}/{case}".encode()))

    def store(self, case, op, args, inputs, outputs):
        """inputs and outputs: {name: tensor}. Floating inputs are float32, what is expected is float64."""
        assert case not in self.cases, case
        self.cases[case] = {"op": op, "args": args, "inputs": list(inputs), "outputs": list(outputs)}
        for name, value in (inputs | outputs).items():
            value = value.detach()
            if name in inputs and value.is_floating_point():
                value = value.float()
            self.tensors[f"{case}.{name}"] = value.contiguous().clone()

    def add(self, case, op, args, inputs, forward, differentiable=None):
        """Stores y = forward(*inputs), dy drawn at random, and d<input> = d sum(y * dy) / d <input>."""
        inputs = {name: as_input(value) for name, value in inputs.items()}
        names = [n for n, v in inputs.items() if v.is_floating_point()] if differentiable is None else differentiable
        leaves = {n: v.clone().requires_grad_(n in names) for n, v in inputs.items()}
        y = forward(*leaves.values())
        dy = as_input(self.rng(case + "/dy").uniform(-1, 1, tuple(y.shape)))
        gradients = torch.autograd.grad(y, [leaves[n] for n in names], dy)
        outputs = {"y": y} | {f"d{n}": g for n, g in zip(names, gradients)}
        self.store(case, op, args, inputs | {"dy": dy}, outputs)

    def write(self, folder=HERE):
        metadata = {"cases": json.dumps(self.cases, separators=(",", ":"))}
        save_file(self.tensors, folder / f"{self.name}.safetensors", metadata)
        print(f"{self.name}: {len(self.cases)} cases")


def as_input(value):
    """Integers as they are; anything else float64, with values that float32 holds."""
    tensor = torch.as_tensor(value)
    return tensor.float().double() if tensor.is_floating_point() else tensor


def activate(y, name):
    functions = {"identity": lambda v: v, "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "gelu": F.gelu}
    return functions[name](y)


def pad_same(x, kernel, strides, value=0.0):
    """Pads NCHW as TensorFlow's "SAME": ceil(size / stride) results, the odd row or column at the end."""
    pads = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, strides))):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


# --- convolution and pooling: images [N,H,W,C], filters [KH,KW,C,F] ---


def conv():
    family = Family("conv")

    def case(
        name, image, kernel, filters, strides=(1, 1), padding="valid", bias=True, activation="identity",
        dilation=(1, 1), groups=1,
    ):
        rng = family.rng(name)
        inputs = {
            "x": rng.uniform(-1, 1, image),
            "w": rng.uniform(-1, 1, (*kernel, image[3] // groups, filters)),
        }
        if bias:
            inputs["b"] = rng.uniform(-1, 1, filters)
        window = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]

        def forward(x, w, b=None):
            x = nchw(x)
            if padding == "same":
                x = pad_same(x, window, strides)
            if padding == "causal":
                x = F.pad(x, (window[1] - 1, 0, window[0] - 1, 0))
            y = F.conv2d(x, w.permute(3, 2, 0, 1), b, stride=strides, dilation=dilation, groups=groups)
            return nhwc(activate(y, activation))

        args = {
            "strides": list(strides), "padding": padding, "activation": activation, "dilation": list(dilation),
            "groups": groups,
        }
        family.add(name, "conv2d", args, inputs, forward)

    kernels = {"1x1": (1, 1), "3x3": (3, 3), "2x3": (2, 3), "5x5": (5, 5)}
    for (k, kernel), stride, padding in itertools.product(kernels.items(), (1, 2), ("valid", "same")):
        case(f"{k}_stride{stride}_{padding}", (2, 7, 6, 3), kernel, 4, (stride, stride), padding)
    case("no_bias", (2, 5, 5, 2), (3, 3), 3, bias=False)
    case("no_bias_same_stride2", (1, 8, 8, 2), (3, 3), 3, (2, 2), "same", bias=False)
    case("relu_valid", (2, 6, 7, 3), (3, 3), 5, activation="relu")
    case("relu_same", (2, 6, 7, 3), (3, 3), 5, padding="same", activation="relu")
    case("tanh_same", (1, 5, 4, 2), (3, 3), 3, padding="same", activation="tanh")
    case("strides_1_2", (1, 9, 9, 2), (3, 3), 3, (1, 2), "same")
    case("strides_3_2", (1, 11, 10, 2), (3, 2), 3, (3, 2), "valid")
    case("stride_above_kernel", (1, 9, 8, 2), (2, 2), 3, (3, 3), "same")
    case("kernel_is_image", (2, 4, 5, 3), (4, 5), 6)
    case("kernel_above_image_same", (1, 3, 2, 2), (5, 5), 3, padding="same")
    case("one_pixel", (3, 1, 1, 4), (1, 1), 2)
    case("one_channel_like_mnist", (1, 12, 12, 1), (3, 3), 8, activation="relu")
    case("17_channels_to_19", (1, 4, 4, 17), (3, 3), 19, padding="same")
    case("one_row", (2, 1, 9, 3), (1, 3), 4, (1, 2), "same")
    case("no_image", (0, 5, 5, 2), (3, 3), 3)
    for padding in ("valid", "same", "causal"):
        case(f"dilation_2_{padding}", (1, 7, 8, 2), (3, 3), 3, padding=padding, dilation=(2, 2))
    case("dilation_3_1_relu", (1, 8, 5, 2), (3, 2), 3, padding="same", activation="relu", dilation=(3, 1))
    case("dilation_1_3_stride2", (1, 5, 9, 2), (2, 3), 3, (2, 2), "same", dilation=(1, 3))
    case("dilation_above_image", (1, 3, 4, 2), (3, 2), 2, padding="same", dilation=(5, 9))
    case("causal_stride2", (2, 1, 7, 2), (1, 3), 3, (1, 2), "causal")
    case("groups_2", (2, 5, 4, 4), (3, 2), 6, padding="same", groups=2)
    case("groups_3_dilation_2_stride2_tanh", (1, 9, 8, 6), (3, 3), 3, (2, 2), "same", True, "tanh", (2, 2), 3)
    case("groups_of_17", (1, 3, 3, 34), (2, 2), 4, groups=2)
    for name, channels, filters in (("depthwise", 5, 5), ("depthwise_twice", 3, 6), ("depthwise_19", 19, 19)):
        case(f"{name}_same", (2, 5, 6, channels), (3, 3), filters, padding="same", groups=channels)
        case(f"{name}_stride2", (1, 6, 5, channels), (2, 3), filters, (2, 2), "same", False, groups=channels)
    case("depthwise_relu", (1, 5, 9, 4), (3, 5), 4, activation="relu", groups=4)
    case("depthwise_dilation_2", (1, 7, 6, 3), (3, 3), 3, (1, 1), "same", True, "sigmoid", (2, 2), 3)
    case("depthwise_dilation_2_1_stride_1_2", (1, 8, 6, 3), (3, 2), 6, (1, 2), dilation=(2, 1), groups=3)
    family.write()


def conv_transpose():
    family = Family("conv_transpose")

    def case(
        name, image, kernel, filters, strides=(1, 1), padding="valid", bias=True, activation="identity",
        dilation=(1, 1),
    ):
        rng = family.rng(name)
        inputs = {
            "x": rng.uniform(-1, 1, image),
            "w": rng.uniform(-1, 1, (*kernel, filters, image[3])),
        }
        if bias:
            inputs["b"] = rng.uniform(-1, 1, filters)

        def forward(x, w, b=None):
            y = F.conv_transpose2d(nchw(x), w.permute(3, 2, 0, 1), stride=strides, dilation=dilation)
            for axis, k, d, s in zip((2, 3), kernel, dilation, strides):  # to Keras's size
                window, size = (k - 1) * d + 1, image[axis - 1]
                short = [0, 0, 0, 0]
                short[2 * (3 - axis) + 1] = max(s - window, 0)
                y = F.pad(y, short)
                if padding == "same":
                    y = y.narrow(axis, max(window - s, 0) // 2, size * s)
            y = nhwc(y)
            return activate(y if b is None else y + b, activation)

        args = {
            "strides": list(strides), "padding": padding, "activation": activation, "dilation": list(dilation),
        }
        family.add(name, "conv2d_transpose", args, inputs, forward)

    for padding in ("valid", "same"):
        for stride in (1, 2, 3):
            case(f"3x3_stride{stride}_{padding}", (2, 3, 4, 3), (3, 3), 2, (stride, stride), padding)
        case(f"4x4_stride2_{padding}", (1, 3, 2, 2), (4, 4), 3, (2, 2), padding)
        case(f"2x5_strides_3_2_{padding}", (1, 2, 3, 2), (2, 5), 3, (3, 2), padding)
        case(f"1x1_stride2_{padding}", (1, 3, 2, 2), (1, 1), 3, (2, 2), padding)
        case(f"dilation_2_{padding}", (1, 4, 3, 2), (3, 2), 2, (2, 1), padding, dilation=(2, 2))
    case("no_bias", (1, 3, 3, 2), (3, 3), 2, (2, 2), bias=False)
    case("relu", (1, 3, 4, 2), (3, 3), 3, (2, 2), "same", activation="relu")
    case("tanh", (1, 3, 4, 2), (2, 2), 3, (2, 2), activation="tanh")
    case("one_pixel", (2, 1, 1, 4), (4, 4), 3)
    case("17_channels_to_19", (1, 2, 2, 17), (2, 2), 19, (2, 2))
    case("no_image", (0, 3, 3, 2), (3, 3), 2, (2, 2))
    family.write()


def pool():
    family = Family("pool")

    def case(op, name, image, size, strides=None, padding="valid"):
        strides = strides or size
        # A permutation of distinct values: the largest of a window is never a tie.
        count = int(np.prod(image))
        x = family.rng(name).permutation(count).reshape(image) / max(count, 1) * 4 - 2

        def forward(x):
            x = nchw(x)
            if op == "max_pool2d":
                if padding == "same":
                    x = pad_same(x, size, strides, -torch.inf)
                return nhwc(F.max_pool2d(x, size, strides))
            ones = torch.ones_like(x)
            if padding == "same":  # the mean is over what lies in the image
                x, ones = pad_same(x, size, strides), pad_same(ones, size, strides)
            return nhwc(F.avg_pool2d(x, size, strides) / F.avg_pool2d(ones, size, strides))

        args = {"pool": list(size), "strides": list(strides), "padding": padding}
        family.add(f"{op}_{name}", op, args, {"x": x}, forward)

    for op in ("max_pool2d", "average_pool2d"):
        for padding in ("valid", "same"):
            case(op, f"2x2_{padding}", (2, 6, 8, 3), (2, 2), padding=padding)
            case(op, f"2x2_odd_{padding}", (2, 7, 5, 3), (2, 2), padding=padding)
            case(op, f"3x3_stride2_{padding}", (1, 8, 7, 4), (3, 3), (2, 2), padding)
            case(op, f"3x3_stride1_{padding}", (1, 5, 6, 2), (3, 3), (1, 1), padding)
            case(op, f"2x3_strides_1_2_{padding}", (1, 6, 9, 2), (2, 3), (1, 2), padding)
            case(op, f"1x1_stride2_{padding}", (1, 5, 5, 2), (1, 1), (2, 2), padding)
        case(op, "whole_image", (2, 4, 5, 3), (4, 5))
        case(op, "pool_above_image_same", (1, 2, 3, 2), (5, 5), (1, 1), "same")
        case(op, "17_channels", (1, 4, 4, 17), (2, 2))
        case(op, "no_image", (0, 4, 4, 2), (2, 2))
    family.write()


# --- matrices ---


BATCHES = [((2, 3), (4, 3, 5)), ((2, 1, 2, 3), (4, 3, 2)), ((1, 2, 3), (4, 3, 2)), ((4, 2, 3), (1, 3, 2)), ((3,), (3,)),
           ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (2, 3, 4)), ((2, 4, 3), (3,)), ((0, 2, 3), (1, 3, 2))]


def matmul():
    family = Family("matmul")

    def case(name, left, right, transpose_a=False, transpose_b=False):
        rng = family.rng(name)

        def forward(a, b):
            a = a.transpose(-1, -2) if transpose_a else a
            return a @ (b.transpose(-1, -2) if transpose_b else b)

        args = {"transpose_a": transpose_a, "transpose_b": transpose_b}
        family.add(name, "matmul", args, {"a": rng.uniform(-1, 1, left), "b": rng.uniform(-1, 1, right)}, forward)

    for ta, tb in itertools.product((False, True), repeat=2):
        suffix = f"{'t' if ta else 'n'}{'t' if tb else 'n'}"

        def both(name, m, k, n, lead_a=(), lead_b=()):
            left = (*lead_a, k, m) if ta else (*lead_a, m, k)
            right = (*lead_b, n, k) if tb else (*lead_b, k, n)
            case(f"{name}_{suffix}", left, right, ta, tb)

        both("3x4x5", 3, 4, 5)
        both("1x1x1", 1, 1, 1)
        both("1x7x1", 1, 7, 1)
        both("17x9x13", 17, 9, 13)
        both("batch_5", 3, 4, 2, (5,), (5,))
        both("batch_2x3", 2, 3, 4, (2, 3), (2, 3))
        both("inner_0", 2, 0, 3)
        both("rows_0", 0, 3, 2)
    for left, right in BATCHES:
        name = f"broadcast_{'x'.join(map(str, left))}_{'x'.join(map(str, right))}"
        case(name, left, right)
    case("one_right_for_all", (4, 3, 5), (5, 2))
    case("one_right_for_all_nt", (2, 2, 3, 5), (4, 5), False, True)
    case("33x65x31", (33, 65), (65, 31))
    family.write()


def dense():
    family = Family("dense")

    def case(name, shape, units, bias=True, activation="identity"):
        rng = family.rng(name)
        inputs = {"x": rng.uniform(-1, 1, shape), "w": rng.uniform(-1, 1, (shape[-1], units))}
        if bias:
            inputs["b"] = rng.uniform(-1, 1, units)
        family.add(name, "dense", {"activation": activation}, inputs,
                   lambda x, w, b=0.0: activate(x @ w + b, activation))

    for activation in ("identity", "relu", "sigmoid", "tanh", "gelu"):
        case(activation, (4, 7), 5, activation=activation)
        case(f"{activation}_no_bias", (3, 5), 6, bias=False, activation=activation)
    case("one_of_all", (1, 1), 1)
    case("wide", (2, 33), 17, activation="relu")
    case("rank_3", (2, 3, 4), 5, activation="relu")
    case("rank_1", (6,), 4)
    case("no_rows", (0, 3), 2, activation="relu")
    family.write()


# --- softmax and losses ---

EXTREME_LOGITS = [
    [1e4, 0, -1e4, 3], [-1e4, -1e4, -1e4, -1e4 + 1], [88, 89, 90, 91], [-104, -103, -150, -88], [1e30, -1e30, 0, 1],
    [0, 0, 0, 0], [1e-30, -1e-30, 0, 1e-8], [700, 710, 720, -745],
]


def softmax():
    family = Family("softmax")
    for op, function in (("softmax", F.softmax), ("log_softmax", F.log_softmax)):

        def case(name, x, axis=-1):
            family.add(f"{op}_{name}", op, {"axis": axis}, {"x": x}, lambda v: function(v, axis))

        for shape in ((3, 5), (1, 1), (4, 1), (7,), (2, 3, 4), (2, 17), (1, 100), (0, 3)):
            name = "x".join(map(str, shape))
            case(name, family.rng(op + name).uniform(-4, 4, shape))
        for axis in (0, 1, -2):
            case(f"axis_{axis}", family.rng(f"{op}{axis}").uniform(-4, 4, (3, 4, 2)), axis)
        case("extreme", np.array(EXTREME_LOGITS))
        case("minus_infinity", np.array([[0, -np.inf, 1], [-np.inf, 2, -np.inf]]))
    # The gradient of log_softmax at y = -inf is as good as any; none is asked for.
    del family.tensors["log_softmax_minus_infinity.dx"]
    family.cases["log_softmax_minus_infinity"]["outputs"] = ["y"]
    family.write()


def loss():
    """Every loss is a mean: over all axes but the last for cross-entropy, over all elements for the others."""
    family = Family("loss")

    def cross_entropy(name, logits):
        logits = np.array(logits, float)
        rng = family.rng(name)
        rows, classes = logits.shape[:-1], logits.shape[-1]
        labels = torch.as_tensor(rng.integers(0, classes, rows))
        family.add(f"sparse_{name}", "sparse_categorical_crossentropy", {"from_logits": True},
                   {"logits": logits, "target": labels},
                   lambda x, t: F.cross_entropy(x.reshape(-1, classes), t.reshape(-1)))
        dense_targets = rng.dirichlet(np.ones(classes), rows)
        for kind, target in (("dense", dense_targets), ("one_hot", np.eye(classes)[labels.numpy()])):
            family.add(f"{kind}_{name}", "categorical_crossentropy", {"from_logits": True},
                       {"logits": logits, "target": target},
                       lambda x, t: -(t * F.log_softmax(x, -1)).sum(-1).mean(), ["logits"])

    for shape in ((4, 5), (1, 2), (3, 10), (2, 3, 4), (17, 1)):
        name = "x".join(map(str, shape))
        cross_entropy(name, family.rng("logits" + name).uniform(-4, 4, shape))
    cross_entropy("extreme", EXTREME_LOGITS)

    def binary(name, logits, target):
        family.add(f"binary_{name}", "binary_crossentropy", {"from_logits": True}, {"logits": logits, "target": target},
                   F.binary_cross_entropy_with_logits, ["logits"])

    for shape in ((6,), (4, 1), (3, 5), (2, 3, 4)):
        name = "x".join(map(str, shape))
        rng = family.rng("binary" + name)
        binary(name, rng.uniform(-4, 4, shape), rng.integers(0, 2, shape).astype(float))
        binary(f"soft_{name}", rng.uniform(-4, 4, shape), rng.uniform(0, 1, shape))
    logits = np.array([1e4, -1e4, 90, -90, 1e30, -1e30, 0, 1e-30])
    binary("extreme_zeros", logits, np.zeros(8))
    binary("extreme_ones", logits, np.ones(8))

    pointwise = {
        "mse": ("mean_squared_error", F.mse_loss),
        "mae": ("mean_absolute_error", F.l1_loss),
        "huber": ("huber", lambda x, t: F.huber_loss(x, t, delta=0.7)),
    }
    for kind, (op, function) in pointwise.items():
        for shape in ((6,), (4, 1), (3, 5), (2, 3, 4)):
            name = kind + "_" + "x".join(map(str, shape))
            rng = family.rng(name.replace("_", "", 1))
            family.add(name, op, {"delta": 0.7} if kind == "huber" else {},
                       {"prediction": rng.uniform(-2, 2, shape), "target": rng.uniform(-2, 2, shape)}, function)

    # Label smoothing and weights: sum_i(w_i * l_i) / N, l_i the mean of what the loss has of example i.
    def each(values, weights):
        return (values.reshape(len(weights), -1).mean(-1) * weights).mean()

    for shape, smoothing in (((4, 5), 0.1), ((1, 2), 0.5), ((2, 3, 4), 0.2), ((17, 1), 0.1), ((6, 3), 0.0), ((5, 4), 1.0)):
        name = "x".join(map(str, shape)) + f"_{smoothing}"
        rng = family.rng("smoothed" + name)
        rows, classes = shape[:-1], shape[-1]
        logits = rng.uniform(-4, 4, shape)
        labels = torch.as_tensor(rng.integers(0, classes, rows))
        weights = rng.uniform(0, 2, shape[0])
        args = {"from_logits": True, "label_smoothing": smoothing}

        def smoothed(x, t):
            t = t if t.is_floating_point() else t.reshape(-1)
            t = t.reshape(-1, classes) if t.is_floating_point() else t
            return F.cross_entropy(x.reshape(-1, classes), t, label_smoothing=smoothing, reduction="none")

        family.add(f"sparse_weighted_{name}", "weighted_sparse_categorical_crossentropy", args,
                   {"logits": logits, "target": labels, "weights": weights},
                   lambda x, t, w: each(smoothed(x, t), w), ["logits"])
        family.add(f"dense_weighted_{name}", "weighted_categorical_crossentropy", args,
                   {"logits": logits, "target": rng.dirichlet(np.ones(classes), rows), "weights": weights},
                   lambda x, t, w: each(smoothed(x, t), w), ["logits"])
        family.add(f"binary_weighted_{name}", "weighted_binary_crossentropy", args,
                   {"logits": logits, "target": rng.integers(0, 2, shape).astype(float), "weights": weights},
                   lambda x, t, w: each(F.binary_cross_entropy_with_logits(
                       x, t * (1 - smoothing) + smoothing / 2, reduction="none"), w), ["logits"])
    for kind, function in (("squared", F.mse_loss), ("absolute", F.l1_loss)):
        rng = family.rng("weighted" + kind)
        family.add(f"{kind}_weighted", f"weighted_mean_{kind}_error", {},
                   {"prediction": rng.uniform(-2, 2, (5, 2, 3)), "target": rng.uniform(-2, 2, (5, 2, 3)),
                    "weights": rng.uniform(0, 2, 5)},
                   lambda x, t, w: each(function(x, t, reduction="none"), w), ["prediction"])
    family.write()


# --- elementwise: the lists and the ranges of include/mica/ops/scalar.h ---

UNARY = {
    "identity": (lambda x: x * 1, -2, 2),
    "negative": (torch.neg, -2, 2),
    "abs": (torch.abs, -2, 2),
    "square": (torch.square, -2, 2),
    "sqrt": (torch.sqrt, 0.2, 4),
    "exp": (torch.exp, -3, 3),
    "log": (torch.log, 0.2, 4),
    "relu": (F.relu, -2, 2),
    "sigmoid": (torch.sigmoid, -4, 4),
    "tanh": (torch.tanh, -3, 3),
    "gelu": (F.gelu, -3, 3),
    # F.softplus is the identity above its threshold.
    "softplus": (lambda x: torch.logaddexp(x, torch.zeros_like(x)), -4, 4),
    "silu": (F.silu, -4, 4),
    "log1p": (torch.log1p, -0.5, 4),
    "expm1": (torch.expm1, -3, 3),
    "reciprocal": (torch.reciprocal, 0.5, 3),
    "rsqrt": (torch.rsqrt, 0.2, 4),
    "sin": (torch.sin, -3, 3),
    "cos": (torch.cos, -3, 3),
    "erf": (torch.erf, -3, 3),
    "sign": (torch.sign, 0.1, 2),
    "floor": (torch.floor, 0.1, 3.9),
    "ceil": (torch.ceil, 0.1, 3.9),
    "round": (torch.round, 0.1, 3.9),
}
BINARY = {
    "add": (torch.add, -2, 2),
    "subtract": (torch.sub, -2, 2),
    "multiply": (torch.mul, -2, 2),
    "divide": (torch.div, 0.5, 2),
    "power": (torch.pow, 0.5, 2),
    "maximum": (torch.maximum, -2, 2),
    "minimum": (torch.minimum, -2, 2),
    "leaky_relu": (lambda a, b: torch.where(a < 0, a * b, a + b * 0), -2, 2),
    "elu": (lambda a, b: torch.where(a < 0, b * torch.expm1(a), a + b * 0), -2, 2),
    "squared_difference": (lambda a, b: torch.square(a - b), -2, 2),
    "absolute_difference": (lambda a, b: torch.abs(a - b), -2, 2),
    "sigmoid_cross_entropy": (lambda a, b: F.binary_cross_entropy_with_logits(
        *torch.broadcast_tensors(a, b), reduction="none"), -2, 2),
}
BROADCASTS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (1, 4)), ((2, 3, 4), ()), ((), (5,)),
              ((2, 1, 4), (3, 1)), ((1,), (7,)), ((), ()), ((0, 4), (4,)), ((2, 1, 3, 1), (5, 1, 2))]


def elementwise():
    family = Family("elementwise")
    for op, (function, low, high) in UNARY.items():
        for shape in ((), (7,), (5, 13), (2, 0, 3)):
            name = f"{op}_{'x'.join(map(str, shape)) or 'scalar'}"
            family.add(name, op, {}, {"x": family.rng(name).uniform(low, high, shape)}, function)
        if op not in ("sqrt", "exp", "log", "log1p", "expm1", "reciprocal", "rsqrt"):
            wide = np.array([-100, -30, -10, -5.5, -1e-3, -1e-10, 0, 1e-10, 1e-3, 5.5, 10, 30, 100])
            family.add(f"{op}_wide", op, {}, {"x": wide}, function)
    for op, (function, low, high) in BINARY.items():
        for left, right in BROADCASTS:
            name = f"{op}_{'x'.join(map(str, left)) or 'scalar'}_{'x'.join(map(str, right)) or 'scalar'}"
            rng = family.rng(name)
            family.add(name, op, {}, {"a": rng.uniform(low, high, left), "b": rng.uniform(low, high, right)}, function)
    for op in ("maximum", "minimum"):  # each gets half of the gradient where both are equal
        family.add(f"{op}_ties", op, {}, {"a": np.array([1.0, 2, 3]), "b": np.array([1.0, 3, 3])}, BINARY[op][0])
    for op, function in (("leaky_relu", F.leaky_relu), ("elu", F.elu)):
        a = as_input(np.array([-1.5, 0.0, 2.0])).requires_grad_()
        y = function(a, 0.25)
        dy = torch.ones_like(y)
        family.store(f"{op}_at_0", op, {}, {"a": a, "b": as_input(0.25), "dy": dy},
                     {"y": y, "da": torch.autograd.grad(y, a, dy)[0]})
    family.write()


# --- normalization and resizing: channels last ---


def norm():
    family = Family("norm")
    shapes = {"rows": (7, 3), "one_row": (1, 4), "images": (2, 3, 5, 4), "70_channels": (9, 70), "sequence": (3, 5, 17),
              "many_rows": (301, 5), "one_channel": (6, 1)}
    for name, shape in shapes.items():
        channels = shape[-1]
        for affine in (True, False):
            suffix = "" if affine else "_plain"

            def inputs(case, moments=False):
                rng = family.rng(case)
                values = {"x": rng.uniform(-2, 2, shape) + 3}
                if moments:
                    values |= {"mean": rng.uniform(2, 4, channels), "variance": rng.uniform(0.5, 2, channels)}
                if affine:
                    values |= {"gamma": rng.uniform(0.5, 2, channels), "beta": rng.uniform(-1, 1, channels)}
                return values

            def over_batch(x, gamma=None, beta=None):
                rows = x.reshape(-1, channels)
                mean, variance = rows.mean(0), rows.var(0, correction=0)
                y = (x - mean) / torch.sqrt(variance + 1e-3)
                return y * gamma + beta if affine else y

            def by_moments(x, mean, variance, gamma=None, beta=None):
                rows = F.batch_norm(x.reshape(-1, channels), mean, variance, gamma, beta, False, 0, 1e-3)
                return rows.reshape(x.shape)

            case = f"batch_{name}{suffix}"
            family.add(case, "batch_norm", {}, inputs(case), over_batch)
            case = f"inference_{name}{suffix}"
            names = ["x", "gamma", "beta"] if affine else ["x"]
            family.add(case, "batch_norm_inference", {}, inputs(case, True), by_moments, names)
            case = f"layer_{name}{suffix}"
            family.add(case, "layer_norm", {}, inputs(case),
                       lambda x, gamma=None, beta=None: F.layer_norm(x, (channels,), gamma, beta, 1e-5))
    family.write()


def resize():
    family = Family("resize")
    for mode in ("nearest", "bilinear"):
        for image, size in (((2, 3, 4, 2), (6, 8)), ((1, 5, 7, 1), (3, 4)), ((1, 1, 1, 3), (3, 2)), ((2, 4, 3, 1), (4, 9)),
                            ((1, 6, 6, 2), (5, 7)), ((0, 2, 2, 1), (4, 4))):
            case = f"{mode}_{'x'.join(map(str, image))}_to_{size[0]}x{size[1]}"
            # PyTorch's "nearest-exact" is the one whose pixels' centres lie at halves.
            options = {"mode": "nearest-exact"} if mode == "nearest" else {"mode": mode, "align_corners": False}
            forward = lambda x: nhwc(F.interpolate(nchw(x), size, **options)) if x.numel() else x.new_zeros(
                (0, *size, 1)) + x.sum()
            family.add(case, "resize2d", {"size": list(size), "mode": mode},
                       {"x": family.rng(case).uniform(-1, 1, image)}, forward)
    family.write()


# --- attention: sequences [B,T,N,D] ---


def attention():
    family = Family("attention")

    def case(name, tq, tk, heads=1, d=8, dv=None, batch=1, mask=None, causal=False, scale=None):
        rng = family.rng(name)
        inputs = {
            "q": rng.uniform(-2, 2, (batch, tq, heads, d)),
            "k": rng.uniform(-2, 2, (batch, tk, heads, d)),
            "v": rng.uniform(-1, 1, (batch, tk, heads, dv or d)),
        }
        full = {"padding": (batch, 1, 1, tk), "pairs": (batch, 1, tq, tk), "shared": (1, 1, tq, tk),
                "heads": (batch, heads, tq, tk), "shared_heads": (1, heads, tq, tk), "one_head": (batch, 1, tq, tk)}
        allowed = torch.ones((1, 1, tq, tk), dtype=torch.bool)
        if mask == "padding":  # a length for each sequence, none of them 0
            lengths = 1 + rng.integers(0, tk, batch)
            allowed = torch.arange(tk)[None, None, None, :] < torch.as_tensor(lengths)[:, None, None, None]
        elif mask:
            allowed = torch.as_tensor(rng.uniform(0, 1, full[mask]) < 0.6)
            allowed[..., 0] = True
        if mask:
            shape = {"padding": (batch, tk), "pairs": (batch, tq, tk), "shared": (1, tq, tk)}.get(mask, full[mask])
            inputs["mask"] = allowed.to(torch.uint8).reshape(shape)
        if causal:  # aligned at the end
            allowed = allowed & torch.ones((tq, tk), dtype=torch.bool).tril(tk - tq)

        def forward(q, k, v, mask=None):
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)
            return y.transpose(1, 2)

        args = {"causal": causal, "scale": scale or 0}
        family.add(name, "scaled_dot_product_attention", args, inputs, forward)

    for t, heads, d in ((1, 1, 8), (3, 2, 8), (17, 1, 16), (65, 1, 4), (129, 1, 3)):
        for causal in (False, True):
            case(f"{t}x{t}{'_causal' if causal else ''}", t, t, heads, d, batch=2 if t < 5 else 1, causal=causal)
    case("two_key_blocks_and_some", 9, 271, d=3)
    case("two_key_blocks_and_some_causal", 70, 271, d=3, causal=True)
    for d in (1, 33, 64, 128):
        case(f"head_of_{d}", 2, 3, 2, d)
        case(f"head_of_{d}_causal", 4, 4, 1, d, causal=True)
    case("wide_values", 6, 9, 2, 8, 19, batch=2)
    case("narrow_values", 6, 9, 2, 33, 3, causal=True)
    case("one_query_of_many_keys", 1, 140, d=8, causal=True)
    case("few_queries_causal", 4, 11, 2, 8, causal=True)
    case("scale_of_its_own", 6, 7, 2, 8, scale=0.9)
    for mask in ("padding", "pairs", "shared", "heads", "shared_heads", "one_head"):
        for causal in (False, True):
            case(f"mask_{mask}{'_causal' if causal else ''}", 4, 6, 3, 4, batch=2, mask=mask, causal=causal)
    case("mask_padding_long_causal", 135, 135, 1, 2, mask="padding", causal=True)
    case("mask_heads_long", 60, 133, 2, 2, mask="heads")

    # Pairs (i, i + D/2) turned by position * base^(-2i/D): Su et al., "RoFormer", 2021, eq. 34, as complex numbers.
    def rotary(name, shape, heads=0, offset=0, base=10000.0):
        half = shape[3] // 2
        angles = np.arange(offset, offset + shape[1])[:, None] * base ** (-np.arange(half) / half)
        turn = torch.as_tensor(np.exp(1j * angles))[None, :, None, :]

        def forward(x):
            z = torch.complex(x[..., :half], x[..., half:])
            z = torch.cat([z[:, :, : heads or shape[2]] * turn, z[:, :, heads or shape[2] :]], 2)
            return torch.cat([z.real, z.imag], 3)

        args = {"heads": heads, "offset": offset, "base": base}
        family.add(name, "rotary", args, {"x": family.rng(name).uniform(-1, 1, shape)}, forward)

    rotary("rotary", (2, 5, 3, 8))
    rotary("rotary_of_2", (1, 17, 1, 2))
    rotary("rotary_of_66", (2, 3, 2, 66), offset=7)
    rotary("rotary_some_heads", (2, 4, 6, 8), heads=4)
    rotary("rotary_base", (1, 6, 2, 16), base=500.0)
    rotary("rotary_far", (1, 3, 1, 32), offset=999_997)
    family.write()


# --- random numbers ---

# The known answers for philox4x32 with 10 rounds that its authors publish (Random123, kat_vectors): counter, key,
# result.
PHILOX_KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def philox(counter, key):
    """Philox 4x32-10 after Salmon et al., SC 2011, section 5.1, on Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def random():
    """Words of 32 bits, kept as int64: counter [n,4], key [n,2], y [n,4]."""
    family = Family("random")
    known = [[[int(word, 16) for word in part.split()] for part in row] for row in PHILOX_KNOWN]
    for counter, key, result in known:
        assert philox(counter, key) == result
    rng = family.rng("philox")
    drawn = [(rng.integers(0, 2**32, 4).tolist(), rng.integers(0, 2**32, 2).tolist()) for _ in range(32)]
    for name, rows in (("known", known), ("drawn", [(c, k, philox(c, k)) for c, k in drawn])):
        counter, key, result = (torch.tensor(column) for column in zip(*rows))
        family.store(name, "philox", {}, {"counter": counter, "key": key}, {"y": result})
    family.write()


if __name__ == "__main__":
    for make in (conv, conv_transpose, pool, matmul, softmax, loss, dense, elementwise, norm, attention, resize, random):
        make()
    import arrays  # these use this module
    import npy_files
    import recurrent
    import training
    import transformer

    arrays.make_all()
    recurrent.make_all()
    training.make_all()
    transformer.make_all()
    npy_files.make_all()
