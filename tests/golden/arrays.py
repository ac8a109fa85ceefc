"""The golden cases of array operations, on random shapes and arguments: values by NumPy, gradients by PyTorch."""

import numpy as np
import torch
import torch.nn.functional as F

from generate import Family, as_input


class Arrays:
    """A family whose cases are numbered, each with a random generator of its own."""

    def __init__(self, name):
        self.family = Family(name)
        self.counts = {}

    def next(self, op):
        number = self.counts[op] = self.counts.get(op, -1) + 1
        case = f"{op}_{number:02}"
        return case, self.family.rng(case)

    def add(self, case, op, args, inputs, numpy_y, torch_forward):
        """Stores what PyTorch computes, with gradients, after comparing it with NumPy's values."""
        tensors = [as_input(v) for v in inputs.values()]
        theirs = torch_forward(*tensors).numpy()
        assert np.allclose(theirs, numpy_y, 1e-12, 1e-12, equal_nan=True), (case, theirs, numpy_y)
        self.family.add(case, op, args, inputs, torch_forward)

    def store(self, case, op, args, inputs, y):
        """Values without gradients: integers, truth."""
        inputs = {n: as_input(v) for n, v in inputs.items()}
        y = torch.as_tensor(np.array(y, np.int64 if y.dtype.kind in "iub" else np.float64, order="C"))
        self.family.store(case, op, args, inputs, {"y": y})


def single(values):
    """float64 with values that float32 holds."""
    return np.asarray(values, np.float32).astype(np.float64)


def random_shape(rng, low=0, high=4, largest=5, empty=0.08):
    rank = int(rng.integers(low, high + 1))
    return tuple(0 if rng.random() < empty else int(rng.integers(1, largest + 1)) for _ in range(rank))


def random_array(rng, shape):
    return single(rng.uniform(-2, 2, shape))


def random_axes(rng, rank, least=1):
    count = int(rng.integers(least, rank + 1))
    axes = rng.permutation(rank)[:count]
    return [int(a) - (rank if rng.random() < 0.5 else 0) for a in axes]


def random_axis(rng, rank):
    return int(rng.integers(-rank, rank))


def manipulate():
    arrays = Arrays("manipulate")
    for _ in range(12):
        case, rng = arrays.next("transpose")
        x = random_array(rng, random_shape(rng))
        axes = [int(a) for a in rng.permutation(x.ndim)]
        arrays.add(case, "transpose", {"axes": axes}, {"x": x}, x.transpose(axes), lambda t: t.permute(axes))
    for _ in range(12):
        case, rng = arrays.next("concat")
        shape = random_shape(rng, 1)
        axis = random_axis(rng, len(shape))
        xs = []
        for _ in range(int(rng.integers(1, 4))):
            own = list(shape)
            own[axis] = int(rng.integers(0, 4))
            xs.append(random_array(rng, own))
        arrays.add(case, "concat", {"axis": axis}, {f"x{i}": x for i, x in enumerate(xs)}, np.concatenate(xs, axis),
                   lambda *ts: torch.cat(ts, axis))
    for _ in range(8):
        case, rng = arrays.next("stack")
        shape = random_shape(rng, 0, 3)
        axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
        xs = [random_array(rng, shape) for _ in range(int(rng.integers(1, 4)))]
        arrays.add(case, "stack", {"axis": axis}, {f"x{i}": x for i, x in enumerate(xs)}, np.stack(xs, axis),
                   lambda *ts: torch.stack(ts, axis))
    for _ in range(8):
        case, rng = arrays.next("split")  # the sum of the parts' first elements times their number, so one result
        shape = list(random_shape(rng, 1, empty=0))
        axis = random_axis(rng, len(shape))
        sizes = [int(s) for s in rng.integers(0, 4, int(rng.integers(1, 4)))]
        shape[axis] = sum(sizes)
        x = random_array(rng, shape)
        index = int(rng.integers(0, len(sizes)))
        y = np.split(x, np.cumsum(sizes)[:-1], axis)[index]
        arrays.add(case, "split", {"axis": axis, "sizes": sizes, "index": index}, {"x": x}, y,
                   lambda t: torch.split(t, sizes, axis)[index])
    for _ in range(24):
        case, rng = arrays.next("slice")
        x = random_array(rng, random_shape(rng, 1, largest=7))
        ranges, slices = [], []
        for n in x.shape[: int(rng.integers(1, x.ndim + 1))]:
            begin, end = (None if rng.random() < 0.3 else int(rng.integers(-n - 2, n + 3)) for _ in range(2))
            step = int(rng.choice([-3, -2, -1, 1, 1, 2, 3]))
            ranges.append([begin, end, step])
            slices.append(slice(begin, end, step))

        def by_index(t, slices=slices):
            for axis, s in enumerate(slices):  # PyTorch knows no negative steps
                t = t.index_select(axis, torch.arange(t.shape[axis])[np.arange(t.shape[axis])[s].copy()])
            return t

        flat = [r if r is not None else -(2**63) for triple in ranges for r in triple]
        arrays.add(case, "slice", {"ranges": flat}, {"x": x}, x[tuple(slices)], by_index)
    for number in range(12):
        case, rng = arrays.next("pad")
        mode = ("constant", "edge", "reflect")[number % 3]
        x = random_array(rng, random_shape(rng, 1, 3, empty=0.08 if mode == "constant" else 0))
        widths = []
        for n in x.shape:
            most = n - 1 if mode == "reflect" else 3
            widths.append([int(w) for w in rng.integers(0, most + 1, 2)])
        value = float(rng.integers(-2, 3))
        extra = {"constant_values": value} if mode == "constant" else {}

        def by_places(t, x=x, widths=widths, mode=mode, value=value):
            places = np.arange(x.size).reshape(x.shape)
            padded = np.pad(places, widths, mode, **({"constant_values": -1} if mode == "constant" else {}))
            flat = torch.cat([t.reshape(-1), t.new_full((1,), value)])
            return flat[torch.as_tensor(padded)]  # -1 is the last: the value

        arrays.add(case, "pad", {"widths": [w for pair in widths for w in pair], "mode": mode, "value": value}, {"x": x},
                   np.pad(x, widths, mode, **extra), by_places)
    for _ in range(8):
        case, rng = arrays.next("roll")
        x = random_array(rng, random_shape(rng, 1))
        axis, shift = random_axis(rng, x.ndim), int(rng.integers(-12, 13))
        arrays.add(case, "roll", {"axis": axis, "shift": shift}, {"x": x}, np.roll(x, shift, axis),
                   lambda t: torch.roll(t, shift, axis))
    for _ in range(8):
        case, rng = arrays.next("flip")
        x = random_array(rng, random_shape(rng, 1))
        axes = random_axes(rng, x.ndim)
        arrays.add(case, "flip", {"axes": axes}, {"x": x}, np.flip(x, axes), lambda t: torch.flip(t, axes))
    for _ in range(8):
        case, rng = arrays.next("repeat")
        x = random_array(rng, random_shape(rng, 1))
        axis, count = random_axis(rng, x.ndim), int(rng.integers(0, 4))
        arrays.add(case, "repeat", {"axis": axis, "count": count}, {"x": x}, np.repeat(x, count, axis),
                   lambda t: torch.repeat_interleave(t, count, axis))
    for _ in range(8):
        case, rng = arrays.next("tile")
        x = random_array(rng, random_shape(rng, 0, 3))
        counts = [int(c) for c in rng.integers(0, 4, int(rng.integers(1, 5)))]
        arrays.add(case, "tile", {"counts": counts}, {"x": x}, np.tile(x, counts), lambda t: torch.tile(t, counts))
    for op, ours, theirs in (("tril", np.tril, torch.tril), ("triu", np.triu, torch.triu)):
        for _ in range(5):
            case, rng = arrays.next(op)
            x, k = random_array(rng, random_shape(rng, 2, empty=0)), int(rng.integers(-4, 5))
            arrays.add(case, op, {"k": k}, {"x": x}, ours(x, k), lambda t: theirs(t, k))
    for _ in range(6):
        case, rng = arrays.next("diagonal")
        x = random_array(rng, random_shape(rng, 2))
        first, second = (int(a) for a in rng.permutation(x.ndim)[:2])
        arrays.add(case, "diagonal", {"axis1": first, "axis2": second}, {"x": x},
                   np.diagonal(x, axis1=first, axis2=second), lambda t: torch.diagonal(t, dim1=first, dim2=second))
    arrays.family.write()


def index():
    arrays = Arrays("index")
    for _ in range(10):
        case, rng = arrays.next("take")
        x = random_array(rng, random_shape(rng, 1, 3, empty=0))
        axis = random_axis(rng, x.ndim)
        n = x.shape[axis]
        indices = rng.integers(-n, n, random_shape(rng, 0, 2))

        def take(t, i, axis=axis, n=n):
            axis %= t.ndim
            y = t.index_select(axis, (i % n).reshape(-1))
            return y.reshape(t.shape[:axis] + i.shape + t.shape[axis + 1 :])

        arrays.add(case, "take", {"axis": axis}, {"x": x, "indices": indices}, np.take(x, indices, axis), take)
    for op in ("gather", "scatter_add"):
        for _ in range(10):
            case, rng = arrays.next(op)
            x = random_array(rng, random_shape(rng, 1, 3, empty=0))
            axis = random_axis(rng, x.ndim)
            shape = list(x.shape)
            shape[axis] = int(rng.integers(0, 6))
            n = x.shape[axis]
            indices = rng.integers(-n, n, shape)
            if op == "gather":
                arrays.add(case, op, {"axis": axis}, {"x": x, "indices": indices},
                           np.take_along_axis(x, indices, axis), lambda t, i: torch.gather(t, axis, i % n))
                continue
            updates = random_array(rng, shape)
            y = x.copy()
            places = list(np.indices(shape))
            places[axis] = indices
            np.add.at(y, tuple(places), updates)
            arrays.add(case, op, {"axis": axis}, {"x": x, "indices": indices, "updates": updates}, y,
                       lambda t, i, u: t.scatter_add(axis, i % n, u))
    for op in ("sort", "argsort", "top_k"):
        for _ in range(8):
            case, rng = arrays.next(op)
            shape = random_shape(rng, 1, 3, largest=9, empty=0)
            count = int(np.prod(shape))
            x = random_array(rng, shape) if op != "argsort" else single(rng.integers(-2, 3, shape))
            axis, descending = random_axis(rng, x.ndim), bool(rng.integers(0, 2))
            if op == "argsort":
                y = np.argsort(-x if descending else x, axis, kind="stable")
                arrays.store(case, op, {"axis": axis, "descending": descending}, {"x": x}, y)
            elif op == "sort":
                y = np.sort(x, axis)
                y = np.flip(y, axis) if descending else y
                arrays.add(case, op, {"axis": axis, "descending": descending}, {"x": x}, y,
                           lambda t: torch.sort(t, axis, descending).values)
            else:
                k = int(rng.integers(0, x.shape[axis] + 1))
                y = np.flip(np.sort(x, axis), axis).take(range(k), axis)
                arrays.add(case, op, {"axis": axis, "k": k}, {"x": x}, y, lambda t: torch.topk(t, k, axis).values)
    for _ in range(8):
        case, rng = arrays.next("cumsum")
        x = random_array(rng, random_shape(rng, 1))
        axis = random_axis(rng, x.ndim)
        arrays.add(case, "cumsum", {"axis": axis}, {"x": x}, np.cumsum(x, axis), lambda t: torch.cumsum(t, axis))
    arrays.family.write()


def reduce():
    arrays = Arrays("reduce")

    def torch_prod(t, axes, keep):
        for a in sorted((a % t.ndim for a in axes), reverse=True):
            t = torch.prod(t, a, keepdim=keep)
        return t

    def norm_of(p):
        return (lambda x, axes, keep: np.sum(np.abs(x) ** p, axes, keepdims=keep) ** (1 / p)) if np.isfinite(p) else (
            lambda x, axes, keep: np.max(np.abs(x), axes, keepdims=keep))

    ops = {
        "sum": (np.sum, lambda t, a, k: torch.sum(t, a, k), {}),
        "mean": (np.mean, lambda t, a, k: torch.mean(t, a, k), {}),
        "prod": (np.prod, torch_prod, {}),
        "max": (np.max, lambda t, a, k: torch.amax(t, a, k), {}),
        "min": (np.min, lambda t, a, k: torch.amin(t, a, k), {}),
        "var": (np.var, lambda t, a, k, ddof: torch.var(t, a, correction=ddof, keepdim=k), {"ddof": (0, 1)}),
        "stddev": (np.std, lambda t, a, k, ddof: torch.std(t, a, correction=ddof, keepdim=k), {"ddof": (0, 1)}),
        "logsumexp": (lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis, keepdims=keepdims)),
                      lambda t, a, k: torch.logsumexp(t, a, k), {}),
        "norm": (lambda x, axis, keepdims, p: norm_of(p)(x, axis, keepdims),
                 lambda t, a, k, p: torch.linalg.vector_norm(t, p, a, k), {"p": (1.0, 2.0, float("inf"))}),
    }
    for op, (ours, theirs, options) in ops.items():
        for number in range(8):
            case, rng = arrays.next(op)
            shape = random_shape(rng, 1, empty=0)
            axes, keep = random_axes(rng, len(shape)), bool(rng.integers(0, 2))
            x = random_array(rng, shape)
            if op == "prod" and number % 2:
                x[rng.random(shape) < 0.2] = 0  # gradients at zeros
            if op in ("max", "min") and number % 2:
                x = single(rng.integers(-1, 2, shape))  # equals share the gradient
            extra = {name: values[number % len(values)] for name, values in options.items()}
            count = int(np.prod([shape[a] for a in axes]))
            if extra.get("ddof", 0) >= count or (op == "stddev" and count == 1):
                extra["ddof"] = 0
                axes, x = list(range(len(shape))), random_array(rng, (3, 5, 2, 3)[: len(shape)])
            args = {"axes": axes, "keepdims": keep} | {n: str(v) if n == "p" else v for n, v in extra.items()}
            arrays.add(case, op, args, {"x": x}, ours(x, axis=tuple(axes), keepdims=keep, **extra),
                       lambda t: theirs(t, tuple(axes), keep, *extra.values()))
    for op, ours in (("argmax", np.argmax), ("argmin", np.argmin)):
        for _ in range(6):
            case, rng = arrays.next(op)
            shape = random_shape(rng, 1, empty=0)
            x = single(rng.integers(-2, 3, shape))
            axis = random_axis(rng, len(shape))
            arrays.store(case, op, {"axis": axis}, {"x": x}, ours(x, axis))
    for op, ours in (("any", np.any), ("all", np.all)):
        for number in range(6):
            case, rng = arrays.next(op)
            shape = random_shape(rng, 1)
            axes = random_axes(rng, len(shape))
            x = single(rng.random(shape) < (0.15 if op == "any" else 0.85))
            arrays.store(case, op, {"axes": axes, "keepdims": bool(number % 2)}, {"x": x},
                         ours(x, tuple(axes), keepdims=bool(number % 2)))
    arrays.family.write()


def compare():
    arrays = Arrays("compare")
    names = {"equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
             "greater": np.greater, "greater_equal": np.greater_equal, "logical_and": np.logical_and,
             "logical_or": np.logical_or, "logical_xor": np.logical_xor}

    def broadcasting(rng, count):
        shape = random_shape(rng)
        for _ in range(count):
            own = tuple(1 if rng.random() < 0.3 else n for n in shape)
            yield own[int(rng.integers(0, len(own) + 1)) :] if rng.random() < 0.3 else own

    for op, ours in names.items():
        for _ in range(6):
            case, rng = arrays.next(op)
            a, b = (single(rng.integers(-1, 2, s)) for s in broadcasting(rng, 2))
            arrays.store(case, op, {}, {"a": a, "b": b}, np.asarray(ours(a, b)))
    for _ in range(10):
        case, rng = arrays.next("where")
        c, a, b = broadcasting(rng, 3)
        condition = rng.integers(0, 2, c).astype(np.uint8)
        a, b = random_array(rng, a), random_array(rng, b)
        arrays.add(case, "where", {}, {"condition": condition, "a": a, "b": b}, np.where(condition != 0, a, b),
                   lambda c, a, b: torch.where(c != 0, a, b))
    for _ in range(6):
        case, rng = arrays.next("clip")
        x = random_array(rng, random_shape(rng))
        low, high = sorted(float(v) for v in single(rng.uniform(-1.5, 1.5, 2)))
        if x.size:
            x.reshape(-1)[0] = low  # the gradient ends at the bounds
        arrays.add(case, "clip", {"low": low, "high": high}, {"x": x}, np.clip(x, low, high),
                   lambda t: torch.clamp(t, low, high))
    arrays.family.write()


def einsum():
    arrays = Arrays("einsum")
    sizes = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 1, "i": 3, "j": 4, "k": 5}
    equations = [
        "ij,jk->ik", "ij,jk", "ij,kj->ik", "bij,bjk->bik", "bij,jk->bik", "ij->ji", "ba", "ij->", "ij->i", "ij->j",
        "i,i->", "i,j->ij", "ij,ij->ij", "ij,ij->", "ij,ij->i", "ii->i", "ii", "iij->ji", "abcd,acde->abe", "ab,bc,cd->ad",
        "ab,ab,ab->a", "a,b,c->cba", "abc,cb->ca", "i,->i", ",->", "bd,bkd->bk", "a b , b c -> a c", "ie,ej->ij",
    ]
    dotted = [("...i,ij->...j", (2, 3, 4), (4, 5)), ("...ij,...jk->...ik", (2, 1, 3, 4), (3, 4, 2)),
              ("...->...", (2, 3)), ("i...->...", (3, 2, 2)), ("...i,...i", (2, 3), (2, 3)), ("a...b->b...a", (2, 3, 4)),
              ("...,...->...", (3, 1), (1, 4)), ("...i->i...", (4,))]
    for equation in equations:
        case, rng = arrays.next("einsum")
        terms = equation.replace(" ", "").split("->")[0].split(",")
        xs = [random_array(rng, tuple(sizes[c] for c in term)) for term in terms]
        arrays.add(case, "einsum", {"equation": equation}, {f"x{i}": x for i, x in enumerate(xs)},
                   np.einsum(equation, *xs), lambda *ts: torch.einsum(equation, *ts))
    for equation, *shapes in dotted:
        case, rng = arrays.next("einsum")
        xs = [random_array(rng, s) for s in shapes]
        arrays.add(case, "einsum", {"equation": equation}, {f"x{i}": x for i, x in enumerate(xs)},
                   np.einsum(equation, *xs), lambda *ts: torch.einsum(equation, *ts))
    arrays.family.write()


def augment():
    """Images [N,H,W,C], each moved or mirrored by its own amount."""
    arrays = Arrays("augment")
    border = 6
    for _ in range(12):
        case, rng = arrays.next("crop2d")
        n, h, w, c = (int(s) for s in rng.integers(1, 6, 4))
        oh, ow = (int(s) for s in rng.integers(0 if rng.random() < 0.2 else 1, 7, 2))
        x = random_array(rng, (n, h, w, c))
        rows, columns = rng.integers(-border, border + 1, n), rng.integers(-border, border + 1, n)

        def window(image, row, column, oh=oh, ow=ow):
            return image[border + row : border + row + oh, border + column : border + column + ow]

        room = ((border, 2 * border + 1), (border, 2 * border + 1), (0, 0))
        y = np.stack([window(np.pad(x[i], room), rows[i], columns[i]) for i in range(n)])
        flat_room = [width for pair in reversed(room) for width in pair]
        arrays.add(case, "crop2d", {"size": [oh, ow]}, {"x": x, "rows": rows, "columns": columns}, y,
                   lambda t, r, k: torch.stack([window(F.pad(t[i], flat_room), r[i], k[i]) for i in range(n)]))
    for _ in range(8):
        case, rng = arrays.next("flip2d")
        x = random_array(rng, tuple(int(s) for s in rng.integers(1, 6, 4)))
        vertical, horizontal = (rng.integers(0, 2, len(x)).astype(np.uint8) for _ in range(2))
        axes = [[a for a, on in ((0, v), (1, h)) if on] for v, h in zip(vertical, horizontal)]
        arrays.add(case, "flip2d", {}, {"x": x, "vertical": vertical, "horizontal": horizontal},
                   np.stack([np.flip(image, a) if a else image for image, a in zip(x, axes)]),
                   lambda t, *_: torch.stack([torch.flip(image, a) for image, a in zip(t, axes)]))
    arrays.family.write()


def make_all():
    for make in (manipulate, index, reduce, compare, einsum, augment):
        make()


if __name__ == "__main__":
    make_all()
