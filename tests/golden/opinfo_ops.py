"""How the samples of PyTorch's OpInfos read in Mica's terms: for each, the op, its arguments and its inputs' layout."""

import torch
from generate import nchw, nhwc
from opinfo_cases import Case, LeftOut, as_axes, axis_of, is_float, left_out_if, of

# --- functions of each element ---

UNARY = {
    name: name
    for name in "abs square sqrt exp log sigmoid tanh log1p expm1 reciprocal rsqrt sin cos erf sign floor ceil round "
    "logical_not isnan isfinite isinf".split()
} | {
    "neg": "negative", "sgn": "sign", "positive": "identity", "clone": "identity", "contiguous": "identity",
    "nn.functional.relu": "relu", "nn.functional.silu": "silu", "nn.functional.gelu": "gelu",
}
BINARY = {
    "add": "add", "sub": "subtract",
    "true_divide": "divide", "div.no_rounding_mode": "divide", "mul": "multiply", "pow": "power", "maximum": "maximum",
    "max.binary": "maximum", "minimum": "minimum", "min.binary": "minimum", "clamp_max": "minimum",
    "clamp_min": "maximum",
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "logical_and": "logical_and", "logical_or": "logical_or", "logical_xor": "logical_xor",
}
REFLECTED = {
    "__radd__": "add", "__rmul__": "multiply", "__rsub__": "subtract", "__rdiv__": "divide", "__rpow__": "power",
    "rsub": "subtract",
}


def unary(op):
    def translate(call, x, approximate="none", memory_format=None):
        left_out_if(approximate != "none", "gelu by tanh")
        return Case(op, {}, {"x": x}, call)

    return translate


def binary(op, reflected=False):
    def translate(call, a, b, alpha=1):
        left_out_if(alpha != 1, "alpha: Mica's has none")
        left_out_if(not is_float(a) or isinstance(b, torch.Tensor) and not is_float(b), "mixed dtypes")
        if not isinstance(b, torch.Tensor):
            return Case(op, {"number": float(b), "reflected": reflected}, {"x": a}, lambda x: call(x, b))
        if reflected:  # call(a, b) is op(b, a)
            return Case(op, {}, {"a": b, "b": a}, lambda x, y: call(y, x))
        return Case(op, {}, {"a": a, "b": b}, call)

    return translate


for _name, _op in UNARY.items():
    of("elementwise", _name)(unary(_op))
for _name, _op in BINARY.items():
    of("elementwise", _name)(binary(_op))
for _name, _op in REFLECTED.items():
    of("elementwise", _name)(binary(_op, True))


@of("elementwise", "nn.functional.leaky_relu")
def leaky_relu(call, x, negative_slope=0.01):
    args = {"number": negative_slope, "reflected": False}
    return Case("leaky_relu", args, {"x": x}, lambda x: call(x, negative_slope))


@of("elementwise", "nn.functional.elu")
def elu(call, x, alpha=1.0):
    return Case("elu", {"number": alpha, "reflected": False}, {"x": x}, lambda x: call(x, alpha))


@of("elementwise", "nn.functional.prelu")
def prelu(call, x, weight):
    """The slopes lie along PyTorch's channels, axis 1: with ones after it they broadcast."""
    slopes = weight.reshape(weight.shape + (1,) * max(x.dim() - 2, 0)) if weight.numel() > 1 else weight.reshape(())
    return Case("leaky_relu", {}, {"a": x, "b": slopes}, lambda x, w: call(x, w.reshape(weight.shape)))


@of("elementwise", "clamp")
def clamp(call, x, low=None, high=None):
    bounds = {"low": low, "high": high}
    left_out_if(not all(is_float(b) for b in bounds.values() if b is not None), "mixed dtypes")
    inputs = {"x": x} | {n: b for n, b in bounds.items() if b is not None}

    def forward(x, *rest):
        rest = list(rest)
        return call(x, *(None if b is None else rest.pop(0) for b in (low, high)))

    return Case("clamp", {}, inputs, forward)  # maximum, then minimum


def clip(low, high):
    def translate(call, x, min_val=low, max_val=high):
        given = {} if (min_val, max_val) == (low, high) else {"min_val": min_val, "max_val": max_val}
        return Case("clip", {"low": min_val, "high": max_val}, {"x": x}, lambda x: call(x, **given))

    return translate


of("elementwise", "nn.functional.hardtanh")(clip(-1, 1))
of("elementwise", "nn.functional.relu6")(clip(0, 6))


@of("elementwise", "where")
def where(call, x, condition, other):
    """The OpInfo's function takes the value first."""
    return Case("where", {}, {"condition": condition, "a": x, "b": other}, lambda c, a, b: call(a, c.bool(), b))


@of("elementwise", "masked_fill")
def masked_fill(call, x, mask, value):
    if not isinstance(value, torch.Tensor):
        inputs = {"condition": mask, "b": x}
        return Case("where", {"number": float(value)}, inputs, lambda c, x: call(x, c.bool(), value))
    return Case("where", {}, {"condition": mask, "a": value, "b": x}, lambda c, v, x: call(x, c.bool(), v))


@of("elementwise", "nn.functional.softplus")
def softplus(call, x, beta=1, threshold=20):
    left_out_if(beta != 1, "beta: Mica's has none")
    return Case("softplus", {}, {"x": x}, call)


@of("elementwise", "nn.functional.dropout")
def dropout(call, x, **how):
    raise LeftOut("random numbers of PyTorch's own")


# --- reductions ---


def reduction(op, first=False):
    def translate(call, x, dim=None, keepdim=False):
        y = (lambda x, *a, **k: call(x, *a, **k)[0]) if first and dim is not None else call
        given = {} if dim is None else {"dim": dim, "keepdim": keepdim}
        axes = as_axes(x, dim)
        empty = x.dim() and not all(x.shape[a] for a in (axes or range(x.dim())))
        left_out_if(empty and op in ("max", "min"), "nothing to choose from")
        return Case(op, {"axes": axes, "keepdims": keepdim if given else False}, {"x": x}, lambda x: y(x, **given))

    return translate


for _name in ("sum", "mean", "prod", "any", "all", "logsumexp"):
    of("reduce", _name)(reduction(_name))
of("reduce", "amax")(reduction("max"))
of("reduce", "amin")(reduction("min"))
of("reduce", "max.reduction_with_dim", "max.reduction_no_dim")(reduction("max", True))
of("reduce", "min.reduction_with_dim", "min.reduction_no_dim")(reduction("min", True))


def position(op):
    def translate(call, x, dim=None, keepdim=False):
        left_out_if(keepdim, "keepdim: Mica's has none")
        if dim is None:
            return Case(op, {"axis": 0}, {"x": x.reshape(-1)}, call)
        return Case(op, {"axis": axis_of(x, dim)}, {"x": x}, lambda x: call(x, dim))

    return translate


of("reduce", "argmax")(position("argmax"))
of("reduce", "argmin")(position("argmin"))


def spread(op):
    def translate(call, x, dim=None, unbiased=None, correction=None, keepdim=False):
        if isinstance(dim, bool):  # the overload (x, unbiased)
            dim, unbiased = None, dim
        ddof = 1 if correction is None and unbiased is None else int(unbiased) if correction is None else correction
        left_out_if(ddof != int(ddof) or ddof < 0, "a correction that is not a count")
        axes = as_axes(x, dim)
        function = getattr(torch, {"stddev": "std"}.get(op, op))
        return Case(op, {"axes": axes, "keepdims": keepdim, "ddof": int(ddof)}, {"x": x},
                    lambda x: function(x, dim=dim, correction=ddof, keepdim=keepdim))

    return translate


of("reduce", "var", "var.unbiased")(spread("var"))
of("reduce", "std", "std.unbiased")(spread("stddev"))


def vector_norm(call, x, p, given):
    dim, keepdim = given["dim"], given["keepdim"]
    left_out_if(p not in (1, 2, float("inf")), "an order other than 1, 2 and infinity")
    axes = as_axes(x, dim)
    empty = x.dim() and not all(x.shape[a] for a in (axes or range(x.dim())))
    left_out_if(empty and p == float("inf"), "nothing to choose from")
    return Case("norm", {"axes": axes, "keepdims": keepdim, "p": str(p)}, {"x": x}, lambda x: call(x, **given))


@of("reduce", "linalg.vector_norm")
def linalg_vector_norm(call, x, ord=2, dim=None, keepdim=False):
    return vector_norm(call, x, ord, {"ord": ord, "dim": dim, "keepdim": keepdim})


@of("reduce", "norm", "norm.fro", "norm.inf")
def norm(call, x, p="fro", dim=None, keepdim=False):
    return vector_norm(call, x, 2 if p in ("fro", None) else p, {"p": p, "dim": dim, "keepdim": keepdim})


@of("reduce", "cumsum")
def cumsum(call, x, dim):
    return Case("cumsum", {"axis": axis_of(x, dim)}, {"x": x}, lambda x: call(x, dim))


def over_last(op):
    """Softmax is over Mica's last axis: the sample's is moved there."""

    def translate(call, x, dim):
        axis_of(x, dim)
        return Case(op, {}, {"x": x.movedim(dim, -1)}, lambda x: call(x.movedim(-1, dim), dim).movedim(dim, -1))

    return translate


of("reduce", "softmax", "softmax.with_dtype")(over_last("softmax"))
of("reduce", "log_softmax", "log_softmax.with_dtype")(over_last("log_softmax"))

# --- matrix products ---


@of("matmul", "matmul", "mm", "bmm", "mv", "dot", "vdot")
def matmul(call, a, b):
    return Case("matmul", {}, {"a": a, "b": b}, call)


@of("matmul", "__rmatmul__")
def rmatmul(call, a, b):
    return matmul(lambda x, y: call(y, x), b, a)


@of("matmul", "nn.functional.linear")
def linear(call, x, weight, bias=None):
    left_out_if(weight.dim() != 2, "weights that are a vector")
    return Case("dense", {}, {"x": x, "w": weight.T, "b": bias}, lambda x, w, *b: call(x, w.T, *b))


@of("matmul", "einsum")
def einsum(call, operands, equation):
    terms, _, result = equation.replace(" ", "").partition("->")
    dots = any("..." in t and x.dim() > len(t) - 3 for t, x in zip(terms.split(","), operands))
    left_out_if(dots and result and "..." not in result, 'a sum over the axes of "...", which NumPy refuses')
    return Case("einsum", {"equation": equation}, {f"x{i}": x for i, x in enumerate(operands)},
                lambda *xs: call(list(xs), equation))


# --- images: [N,H,W,C] from PyTorch's [N,C,H,W]; sequences are images of one row ---


def images(x, rank):
    """x as [N,H,W,C], and the way back: for one image, and one of `rank` 1, a sequence."""
    single = x.dim() == rank + 1
    def there(t):
        t = t.unsqueeze(0) if single else t
        return nhwc(t.unsqueeze(2) if rank == 1 else t)
    def back(t):
        t = nchw(t)
        t = t.squeeze(2) if rank == 1 else t
        return t.squeeze(0) if single else t
    return there, back


def sizes(value, rank, row=1):
    """A size for each of the two axes."""
    value = [value] * rank if isinstance(value, (int, float)) else list(value)
    value = value * rank if len(value) < rank else value
    return [row, *value] if rank == 1 else value


def around(pads):
    return [pads[0], pads[0], pads[1], pads[1]]  # above, below, left, right


def convolution(rank):
    def translate(call, x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
        there, back = images(x, rank)
        named = isinstance(padding, str)
        args = {
            "strides": sizes(stride, rank), "padding": padding if named else "valid",
            "pads": around([0, 0] if named else sizes(padding, rank, 0)), "dilation": sizes(dilation, rank),
            "groups": groups,
        }
        filters = lambda t: (t.unsqueeze(2) if rank == 1 else t).permute(2, 3, 1, 0)
        back_filters = lambda t: t.permute(3, 2, 0, 1).squeeze(2) if rank == 1 else t.permute(3, 2, 0, 1)
        return Case("conv2d", args, {"x": there(x), "w": filters(w), "b": bias},
                    lambda x, w, b=None: there(call(back(x), back_filters(w), b, stride, padding, dilation, groups)))

    return translate


of("image", "nn.functional.conv1d")(convolution(1))
of("image", "nn.functional.conv2d")(convolution(2))


def transposed_convolution(rank):
    """PyTorch's result is a part of Mica's that begins `padding` rows and columns further in."""

    def translate(call, x, w, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        left_out_if(groups != 1, "groups: conv2d_transpose has none")
        there, back = images(x, rank)
        filters = lambda t: (t.unsqueeze(2) if rank == 1 else t).permute(2, 3, 1, 0)
        back_filters = lambda t: t.permute(3, 2, 0, 1).squeeze(2) if rank == 1 else t.permute(3, 2, 0, 1)
        forward = lambda x, w, b=None: there(
            call(back(x), back_filters(w), b, stride, padding, output_padding, groups, dilation))
        strides, begin, apart = sizes(stride, rank), sizes(padding, rank, 0), sizes(dilation, rank)
        y = forward(there(x), filters(w), bias)
        crop = []
        for axis in (0, 1):
            window = (filters(w).shape[axis] - 1) * apart[axis] + 1
            whole = there(x).shape[1 + axis] * strides[axis] + max(window - strides[axis], 0)
            left_out_if(begin[axis] + y.shape[1 + axis] > whole, "output_padding beyond the last window")
            crop += [begin[axis], begin[axis] + y.shape[1 + axis]]
        return Case("conv2d_transpose", {"strides": strides, "dilation": apart, "crop": crop},
                    {"x": there(x), "w": filters(w), "b": bias}, forward)

    return translate


of("image", "nn.functional.conv_transpose1d")(transposed_convolution(1))
of("image", "nn.functional.conv_transpose2d")(transposed_convolution(2))


def pool(op, rank):
    def of_the_largest(call, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        left_out_if(any(d != 1 for d in sizes(dilation, rank)), "dilation: pooling has none")
        return translate(call, x, kernel_size, stride, padding, ceil_mode, {"return_indices": return_indices})

    def of_means(
        call, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    ):
        left_out_if(divisor_override is not None, "divisor_override")
        return translate(call, x, kernel_size, stride, padding, ceil_mode, {"count_include_pad": count_include_pad})

    def translate(call, x, kernel_size, stride, padding, ceil_mode, more):
        there, back = images(x, rank)
        given = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode} | more

        def forward(x):
            y = call(back(x), kernel_size, **given)
            return there(y[0] if isinstance(y, tuple) else y)

        window = sizes(kernel_size, rank)
        strides = window if stride in (None, [], ()) else sizes(stride, rank)
        image, y = there(x), forward(there(x))
        left_out_if(image.numel() == 0 and y.shape[0] != 0, "images without pixels")
        pads, beyond = [], False
        for axis, begin in enumerate(sizes(padding, rank, 0)):
            end = (y.shape[1 + axis] - 1) * strides[axis] + window[axis] - begin - image.shape[1 + axis]
            beyond = beyond or end > begin
            pads += [begin, max(end, 0)]
        same = False
        if op == "average_pool2d":
            left_out_if(beyond, "ceil_mode, where a window is beyond the padding")
            if any(pads) and not more["count_include_pad"]:
                both = zip(strides, window, (pads[:2], pads[2:]))
                same = all(s == 1 and p == [k // 2] * 2 and k % 2 for s, k, p in both)
                left_out_if(not same, "count_include_pad=False with other padding than `same`")
        args = {"window": window, "strides": strides, "padding": "same" if same else "valid"}
        return Case(op, args | {"pads": [0] * 4 if same else pads}, {"x": image}, forward)

    return of_the_largest if op == "max_pool2d" else of_means


of("image", "nn.functional.max_pool1d")(pool("max_pool2d", 1))
of("image", "nn.functional.max_pool2d")(pool("max_pool2d", 2))
of("image", "nn.functional.avg_pool1d")(pool("average_pool2d", 1))
of("image", "nn.functional.avg_pool2d")(pool("average_pool2d", 2))


def adaptive_pool(op, rank):
    """Windows of one size, where the result's size divides the image's."""

    def translate(call, x, output_size, return_indices=None):
        there, back = images(x, rank)

        def forward(x):
            y = call(back(x), output_size, *([] if return_indices is None else [return_indices]))
            return there(y[0] if isinstance(y, tuple) else y)

        image, y = there(x), forward(there(x))
        before, after = image.shape[1:3], y.shape[1:3]
        left_out_if(any(b % a for b, a in zip(before, after)), "adaptive windows of several sizes")
        window = [b // a for b, a in zip(before, after)]
        args = {"window": window, "strides": window, "padding": "valid", "pads": [0] * 4}
        return Case(op, args, {"x": image}, forward)

    return translate


of("image", "nn.functional.adaptive_avg_pool1d")(adaptive_pool("average_pool2d", 1))
of("image", "nn.functional.adaptive_avg_pool2d")(adaptive_pool("average_pool2d", 2))
of("image", "nn.functional.adaptive_max_pool1d")(adaptive_pool("max_pool2d", 1))
of("image", "nn.functional.adaptive_max_pool2d")(adaptive_pool("max_pool2d", 2))

_INTERPOLATE = [f"nn.functional.interpolate.{m}" for m in ("nearest", "nearest-exact", "linear", "bilinear")]


@of("image", "nn.functional.upsample_bilinear")
def upsample_bilinear(call, x, *how, **more):
    raise LeftOut("align_corners: Mica's pixels are squares")


@of("image", *_INTERPOLATE, "nn.functional.upsample_nearest")
def resize(call, x, size=None, scale_factor=None, mode=None, align_corners=None, recompute_scale_factor=None):
    left_out_if(x.dim() == 5, "volumes")
    left_out_if(align_corners, "align_corners: Mica's pixels are squares")
    given = {"size": size, "scale_factor": scale_factor}
    if mode is not None:
        given |= {"mode": mode, "align_corners": align_corners, "recompute_scale_factor": recompute_scale_factor}
    rank = x.dim() - 2
    there, back = images(x, rank)
    forward = lambda x: there(call(back(x), **given))
    image = there(x)
    after = forward(image).shape[1:3]
    factors = sizes(scale_factor, rank) if scale_factor is not None else [1, 1]
    exact = all(b * f == a for b, f, a in zip(image.shape[1:3], factors, after))
    rounded = scale_factor is not None and not recompute_scale_factor and not exact
    left_out_if(rounded, "a scale that is not that of the sizes")
    whole = all(a % b == 0 for b, a in zip(image.shape[1:3], after))
    nearest = "linear" not in (mode or "nearest")
    points = nearest and mode != "nearest-exact" and not whole
    left_out_if(points, "`nearest`, whose pixels are points (`nearest-exact` is Mica's)")
    return Case("resize2d", {"size": list(after), "mode": "nearest" if nearest else "bilinear"}, {"x": image}, forward)


# --- normalization, over the last axis ---


@of("norm", "nn.functional.batch_norm", "nn.functional.batch_norm.without_cudnn")
def batch_norm(call, x, mean, variance, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    left_out_if(x.dim() < 2, "a batch without a channel axis")
    if training:
        forward = lambda x, g=None, b=None: call(
            x.movedim(-1, 1), None, None, g, b, True, momentum, eps).movedim(1, -1)
        return Case("batch_norm", {"epsilon": eps}, {"x": x.movedim(1, -1), "gamma": weight, "beta": bias}, forward)
    forward = lambda x, m, v, g=None, b=None: call(x.movedim(-1, 1), m, v, g, b, False, momentum, eps).movedim(1, -1)
    inputs = {"x": x.movedim(1, -1), "mean": mean, "variance": variance, "gamma": weight, "beta": bias}
    return Case("batch_norm_inference", {"epsilon": eps}, inputs, forward, ["x", "gamma", "beta"])


@of("norm", "nn.functional.layer_norm")
def layer_norm(call, x, shape, weight=None, bias=None, eps=1e-5):
    """Several axes as one."""
    left_out_if(eps < 0, "a negative epsilon")
    shape = tuple(shape)
    rows = x.shape[: x.dim() - len(shape)]
    as_shape = lambda t, shape: None if t is None else t.reshape(shape)
    forward = lambda x, g=None, b=None: call(
        x.reshape(rows + shape), shape, as_shape(g, shape), as_shape(b, shape), eps).reshape(x.shape)
    n = int(torch.Size(shape).numel())
    left_out_if(n == 1 and x.numel() > 0, "rows of one value, whose gradient, 0, is rounding times 1 / sqrt(epsilon)")
    inputs = {"x": x.reshape(*rows, n), "gamma": as_shape(weight, -1), "beta": as_shape(bias, -1)}
    return Case("layer_norm", {"epsilon": eps}, inputs, forward)
