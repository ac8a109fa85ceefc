"""How the samples of PyTorch's OpInfos of array operations and losses read in Mica's terms."""

import torch
from opinfo_cases import LARGEST, Case, as_axes, axis_of, left_out_if, of

NONE = -(2**63)  # a bound of a slice that is left out

# --- indices ---


@of("index", "nn.functional.embedding")
def embedding(call, table, tokens, padding_idx=None, max_norm=None, scale_grad_by_freq=False, **other):
    left_out_if(padding_idx is not None, "padding_idx, a row without a gradient")
    left_out_if(max_norm is not None, "max_norm, which changes the table")
    left_out_if(scale_grad_by_freq, "scale_grad_by_freq")
    return Case("embedding", {}, {"table": table, "tokens": tokens}, lambda t, i: call(t, i))


def alike_but_for(axis, x, indices):
    """Mica's gather and scatter_add want the sizes off the axis to be the same."""
    left_out_if(x.dim() == 0, "an axis of a scalar")
    sizes = lambda t: [n for i, n in enumerate(t.shape) if i != axis % x.dim()]
    left_out_if(indices.dim() != x.dim() or sizes(x) != sizes(indices), "indices smaller than the tensor off the axis")


@of("index", "gather")
def gather(call, x, dim, indices):
    alike_but_for(dim, x, indices)
    return Case("gather", {"axis": dim}, {"x": x, "indices": indices}, lambda x, i: call(x, dim, i))


@of("index", "take_along_dim")
def take_along_dim(call, x, indices, dim=None):
    if dim is None:
        inputs = {"x": x.reshape(-1), "indices": indices.reshape(-1)}
        return Case("gather", {"axis": 0}, inputs, lambda x, i: call(x, i))
    alike_but_for(dim, x, indices)
    return Case("gather", {"axis": dim}, {"x": x, "indices": indices}, lambda x, i: call(x, i, dim))


@of("index", "scatter_add")
def scatter_add(call, x, dim, indices, updates):
    alike_but_for(dim, x, indices)
    left_out_if(indices.shape != updates.shape, "updates of which some are not used")
    return Case("scatter_add", {"axis": dim}, {"x": x, "indices": indices, "updates": updates},
                lambda x, i, u: call(x, dim, i, u))


@of("index", "index_select")
def index_select(call, x, dim, indices):
    axis = axis_of(x, dim)
    return Case("take", {"axis": axis}, {"x": x, "indices": indices.reshape(-1)}, lambda x, i: call(x, dim, i))


@of("index", "take")
def take(call, x, indices):
    """Of all elements in a row."""
    return Case("take", {"axis": 0}, {"x": x.reshape(-1), "indices": indices}, call)


@of("index", "select")
def select(call, x, dim, index):
    inputs = {"x": x, "indices": torch.tensor(index)}
    return Case("take", {"axis": axis_of(x, dim)}, inputs, lambda x, i: call(x, dim, index))


@of("index", "nn.functional.one_hot")
def one_hot(call, labels, num_classes=-1):
    classes = int(labels.max()) + 1 if num_classes == -1 else num_classes
    return Case("one_hot", {"classes": classes}, {"labels": labels}, lambda i: call(i, classes))


def ordered(op):
    def translate(call, x, dim=-1, descending=False, stable=False):
        axis = axis_of(x, dim)
        value = lambda x: torch.sort(x, dim=dim, descending=descending, stable=True)[0 if op == "sort" else 1]
        return Case(op, {"axis": axis, "descending": descending}, {"x": x}, value)

    return translate


of("index", "sort")(ordered("sort"))
of("index", "argsort")(ordered("argsort"))


@of("index", "msort")
def msort(call, x):
    return Case("sort", {"axis": axis_of(x, 0), "descending": False}, {"x": x}, call)


@of("index", "topk")
def topk(call, x, k, dim=-1, largest=True, sorted=True):
    left_out_if(not largest, "the smallest")
    axis = axis_of(x, dim)
    return Case("top_k", {"axis": axis, "k": k}, {"x": x}, lambda x: torch.topk(x, k, dim, largest, True)[0])


# --- values moved and put together ---


def joined(op, default=0):
    def translate(call, xs, dim=default):
        axis_of(xs[0] if op == "concat" else torch.empty(1), dim)
        ranks = {x.dim() for x in xs}
        left_out_if(len(ranks) > 1, "an empty vector among tensors of another rank")
        return Case(op, {"axis": dim}, {f"x{i}": x for i, x in enumerate(xs)}, lambda *ts: call(list(ts), dim=dim))

    return translate


of("manipulate", "cat")(joined("concat"))
of("manipulate", "stack")(joined("stack"))


def stacked(axis):
    def translate(call, xs):
        left_out_if(any(x.dim() < max(axis + 1, 2) for x in xs), "tensors of too few axes")
        return Case("concat", {"axis": axis}, {f"x{i}": x for i, x in enumerate(xs)}, lambda *ts: call(list(ts)))

    return translate


of("manipulate", "vstack")(stacked(0))
of("manipulate", "hstack", "column_stack")(stacked(1))
of("manipulate", "dstack")(stacked(2))


def pieces(default=0):
    """All parts in one result: the elements of each, one part after another."""

    def translate(call, x, *how, **more):
        axis = axis_of(x, more.get("dim", how[1] if len(how) > 1 else min(default, x.dim() - 1)))
        parts = call(x, *how, **more)
        left_out_if(x.shape[axis] == 0, "nothing to split")
        return Case("split", {"axis": axis, "sizes": [p.shape[axis] for p in parts]}, {"x": x},
                    lambda x: torch.cat([p.reshape(-1) for p in call(x, *how, **more)]))

    return translate


of("manipulate", "split", "split.list_args", "split_with_sizes", "unsafe_split")(pieces())
of("manipulate", "chunk", "unsafe_chunk", "tensor_split")(pieces())
of("manipulate", "vsplit")(pieces(0))
of("manipulate", "hsplit")(pieces(1))
of("manipulate", "dsplit")(pieces(2))


def padded(mode):
    def translate(call, x, pad, given_mode=None, value=None, **more):
        """PyTorch's widths begin with the last axis."""
        widths = [0] * (2 * x.dim() - len(pad))
        for i in range(len(pad) // 2 - 1, -1, -1):
            widths += [pad[2 * i], pad[2 * i + 1]]
        left_out_if(any(w < 0 for w in widths), "negative widths")
        if "mode" in more:
            more["mode"] = given_mode if given_mode is not None else more["mode"]
        args = {"widths": widths, "mode": mode, "value": float(more.get("value", value) or 0)}
        given = more | ({"value": value} if value is not None else {})
        positional = [] if given_mode is None else [given_mode]
        return Case("pad", args, {"x": x}, lambda x: call(x, pad, *positional, **given))

    return translate


of("manipulate", "nn.functional.pad.constant")(padded("constant"))
of("manipulate", "nn.functional.pad.reflect")(padded("reflect"))
of("manipulate", "nn.functional.pad.replicate", "nn.functional.pad.replicate_negative")(padded("edge"))


@of("manipulate", "constant_pad_nd")
def constant_pad_nd(call, x, pad, value=0.0):
    return padded("constant")(lambda x, pad, value=0.0: call(x, pad, value), x, pad, value=value)


@of("manipulate", "roll")
def roll(call, x, shifts, dims=None):
    given = (shifts,) if dims is None else (shifts, dims)
    as_list = lambda v: [v] if isinstance(v, int) else list(v)
    left_out_if(dims in (None, ()) and x.dim() != 1, "a roll of all elements in a row")
    axes = [0] if dims in (None, ()) else as_list(dims)
    return Case("roll", {"shifts": as_list(shifts), "axes": axes}, {"x": x}, lambda x: call(x, *given))


@of("manipulate", "flip")
def flip(call, x, dims):
    left_out_if(x.dim() > 0 and len(dims) == 0, "a flip of no axes, which are all in Mica")
    return Case("flip", {"axes": as_axes(x, dims)}, {"x": x}, lambda x: call(x, dims))


def flip_one(axis):
    return lambda call, x: Case("flip", {"axes": [axis]}, {"x": x}, call)


of("manipulate", "flipud")(flip_one(0))
of("manipulate", "fliplr")(flip_one(1))


@of("manipulate", "repeat_interleave")
def repeat_interleave(call, x, repeats, dim=None, output_size=None):
    left_out_if(isinstance(repeats, torch.Tensor), "a count for each element")
    if dim is None:
        return Case("repeat", {"axis": 0, "count": repeats}, {"x": x.reshape(-1)}, lambda x: call(x, repeats))
    return Case("repeat", {"axis": axis_of(x, dim), "count": repeats}, {"x": x}, lambda x: call(x, repeats, dim))


@of("manipulate", "repeat", "tile")
def tile(call, x, counts):
    return Case("tile", {"counts": list(counts)}, {"x": x}, lambda x: call(x, counts))


def view(op):
    """A shape given, or the tensor that has it."""

    def translate(call, x, *how, **more):
        shape = call(x, *how, **more).shape
        return Case(op, {"shape": list(shape)}, {"x": x}, lambda x: call(x, *how, **more))

    return translate


of("manipulate", "broadcast_to", "expand", "expand_as")(view("broadcast_to"))
of("manipulate", "reshape", "view", "reshape_as", "view_as", "flatten", "ravel", "unflatten")(view("reshape"))


def transposed(call, x, *how):
    """In which order the axes end up is seen at places of a tensor of as many axes."""
    left_out_if(x.dim() == 0, "an axis of a scalar")
    order = call(torch.empty(tuple(range(2, 2 + x.dim()))), *how).shape
    return Case("transpose", {"axes": [n - 2 for n in order]}, {"x": x}, lambda x: call(x, *how))


of("manipulate", "permute", "transpose", "movedim", "T", "t", "mT")(transposed)


@of("manipulate", "squeeze", "squeeze.multiple")
def squeeze(call, x, *dim):
    given = range(x.dim()) if not dim else as_axes(x, dim[0])
    axes = sorted({a % x.dim() for a in given if x.shape[a] == 1}, reverse=True)
    left_out_if(bool(dim) and len(axes) < len(given), "an axis that is not of size 1")
    return Case("squeeze", {"axes": axes}, {"x": x}, lambda x: call(x, *dim))


@of("manipulate", "unsqueeze")
def unsqueeze(call, x, dim):
    return Case("expand_dims", {"axis": dim}, {"x": x}, lambda x: call(x, dim))


def diagonal(first, second):
    def translate(call, x, offset=0, dim1=first, dim2=second):
        left_out_if(offset != 0, "a diagonal off the main one")
        return Case("diagonal", {"axis1": dim1, "axis2": dim2}, {"x": x}, lambda x: torch.diagonal(x, 0, dim1, dim2))

    return translate


of("manipulate", "diagonal")(diagonal(0, 1))
of("manipulate", "linalg.diagonal")(diagonal(-2, -1))


def triangle(op):
    return lambda call, x, k=0: Case(op, {"k": k}, {"x": x}, lambda x: call(x, k))


of("manipulate", "tril")(triangle("tril"))
of("manipulate", "triu")(triangle("triu"))


def sliced(x, slices, forward):
    flat = []
    for s in slices:
        flat += [NONE if bound is None else bound for bound in (s.start, s.stop)]
        flat.append(1 if s.step is None else s.step)
    return Case("slice", {"ranges": flat}, {"x": x}, forward)


def along(x, dim, part):
    axis = axis_of(x, dim) % x.dim()
    return [slice(None)] * axis + [part]


@of("manipulate", "narrow")
def narrow(call, x, dim, start, length):
    left_out_if(isinstance(start, torch.Tensor), "a start that is a tensor")
    begin = start % x.shape[dim] if start < 0 else start
    return sliced(x, along(x, dim, slice(begin, begin + length)), lambda x: call(x, dim, start, length))


@of("manipulate", "slice")
def slice_op(call, x, dim=0, start=None, end=None, step=1):
    return sliced(x, along(x, dim, slice(start, end, step)), lambda x: call(x, dim, start, end, step))


@of("manipulate", "__getitem__")
def getitem(call, x, index):
    parts = index if isinstance(index, (tuple, list)) else (index,)
    left_out_if(not all(isinstance(p, slice) for p in parts), "indices other than slices")
    return sliced(x, parts, lambda x: call(x, index))


# --- tensors made of numbers ---


def created(op, arguments):
    """arguments(*the sample's) gives Mica's, by name."""

    def translate(call, *given, device=None, requires_grad=False, **more):
        y = call(*given, **more, dtype=torch.float64)
        left_out_if(y.numel() > LARGEST, f"more than {LARGEST} elements")
        return Case(op, arguments(*given, **more), {}, lambda: y)

    return translate


def of_arange(first, *rest, end=None):
    start, stop, *step = (0, first) if not rest and end is None else (first, *(rest or (end,)))
    return {"start": float(start), "stop": float(stop), "step": float(step[0]) if step else 1.0}


of("create", "arange")(created("arange", of_arange))
of("create", "linspace")(created("linspace", lambda start, end, steps: {"start": start, "stop": end, "count": steps}))
of("create", "eye")(created("eye", lambda n, m=-1: {"rows": n, "columns": m}))
of("create", "zeros")(created("full", lambda shape: {"shape": list(shape), "value": 0.0}))
of("create", "ones")(created("full", lambda shape: {"shape": list(shape), "value": 1.0}))
of("create", "full")(created("full", lambda shape, value: {"shape": list(shape), "value": float(value)}))

# --- losses ---


def regression(op, **options):
    def translate(call, x, target, reduction="mean", delta=1.0, beta=1.0, **more):
        left_out_if(x.shape != target.shape, "shapes that broadcast")
        args = {"reduction": reduction} | options
        given = {"reduction": reduction}
        if op == "huber":
            args |= {"delta": delta, "scale": 1.0}
            given |= {"delta": delta}
        if op == "smooth_l1":  # is Huber's, divided by its delta
            left_out_if(beta == 0, "beta of 0")
            args |= {"delta": float(beta), "scale": 1 / beta}
            given |= {"beta": beta}
        name = "huber" if op == "smooth_l1" else op
        return Case(name, args, {"prediction": x, "target": target}, lambda x, t: call(x, t, **given))

    return translate


of("loss", "nn.functional.mse_loss")(regression("mean_squared_error"))
of("loss", "nn.functional.l1_loss")(regression("mean_absolute_error"))
of("loss", "nn.functional.huber_loss")(regression("huber"))
of("loss", "nn.functional.smooth_l1_loss")(regression("smooth_l1"))


@of("loss", "nn.functional.cross_entropy")
def cross_entropy(call, x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """Classes, PyTorch's axis 1, become the last."""
    left_out_if(weight is not None, "weights of classes, by whose sum PyTorch divides")
    classes = 1 if x.dim() > 1 else 0
    args = {"reduction": reduction, "label_smoothing": label_smoothing}
    logits = x.movedim(classes, -1)
    given = {"reduction": reduction, "label_smoothing": label_smoothing}
    if target.is_floating_point():
        forward = lambda x, t: call(x.movedim(-1, classes), t.movedim(-1, classes), **given)
        inputs = {"prediction": logits, "target": target.movedim(classes, -1)}
        return Case("categorical_crossentropy", args, inputs, forward, ["prediction"])
    left_out_if(bool((target == ignore_index).any()), "labels to be ignored")
    return Case("sparse_categorical_crossentropy", args, {"prediction": logits, "target": target},
                lambda x, t: call(x.movedim(-1, classes), t, **given))


def binary_crossentropy(from_logits):
    def translate(call, x, target, weight=None, reduction="mean", pos_weight=None):
        left_out_if(pos_weight is not None, "pos_weight")
        left_out_if(weight is not None and weight.shape != x.shape, "weights that broadcast")
        left_out_if(weight is not None and x.dim() == 0, "a weight without examples")
        forward = lambda x, t, w=None: call(x, t, weight=w, reduction=reduction)
        return Case("binary_crossentropy", {"reduction": reduction, "from_logits": from_logits},
                    {"prediction": x, "target": target, "weights": weight}, forward, ["prediction"])

    return translate


of("loss", "nn.functional.binary_cross_entropy")(binary_crossentropy(False))
of("loss", "nn.functional.binary_cross_entropy_with_logits")(binary_crossentropy(True))
