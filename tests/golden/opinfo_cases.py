"""What a sample of PyTorch's is in Mica's terms, and the file that it goes to; see opinfo.py."""

import json
import pathlib

import torch
from generate import Family, as_input

FOLDER = pathlib.Path(__file__).parent / "opinfo"
LARGEST = 4096  # elements of all inputs together


class LeftOut(Exception):
    """Why a sample is no case of Mica's."""


class Case:
    """A sample in Mica's terms: y = forward(*inputs), all laid out as Mica's are. differentiable: the inputs that Mica
    has gradients for; all floating ones where it is None."""

    def __init__(self, op, args, inputs, forward, differentiable=None):
        self.op, self.args, self.forward = op, args, forward
        self.inputs = {n: as_input(truth_as_bytes(v.detach())) for n, v in inputs.items() if v is not None}
        floating = [n for n, v in self.inputs.items() if v.is_floating_point()]
        self.differentiable = floating if differentiable is None else [n for n in differentiable if n in floating]

    def key(self):
        """What makes two cases the same: all but the numbers drawn, of which zeros and infinities count."""
        values = []
        for name, x in self.inputs.items():
            telling = torch.stack([x == 0, x.isposinf(), x.isneginf(), x.isnan()]) if x.is_floating_point() else x
            values.append((name, tuple(x.shape), str(x.dtype), telling.numpy().tobytes()))
        return json.dumps([self.op, self.args]), tuple(values), tuple(self.differentiable)


def truth_as_bytes(x):
    return x.to(torch.uint8) if x.dtype == torch.bool else x


class Counts:
    """What became of the samples of one OpInfo or ModuleInfo."""

    def __init__(self):
        self.seen = self.stored = self.again = 0
        self.left_out = {}  # {reason: count}


class Samples(Family):
    """The cases of one file, and what was seen and left out on the way to them."""

    counts = {}  # {family: {OpInfo or ModuleInfo: Counts}}

    def __init__(self, name):
        super().__init__(name)
        self.keys = set()

    def add_sample(self, source, number, translate):
        """Stores what translate() makes of sample `number` of `source`, or counts why not."""
        counts = Samples.counts.setdefault(self.name, {}).setdefault(source, Counts())
        counts.seen += 1
        try:
            case = translate()
            left_out_if(sum(x.numel() for x in case.inputs.values()) > LARGEST, f"more than {LARGEST} elements")
            if case.key() in self.keys:
                counts.again += 1
                return
            self.compute(f"{source}_{number:02}", case)
            self.keys.add(case.key())
            counts.stored += 1
        except LeftOut as reason:
            counts.left_out[str(reason)] = counts.left_out.get(str(reason), 0) + 1

    def compute(self, name, case):
        leaves = {n: v.clone().requires_grad_(n in case.differentiable) for n, v in case.inputs.items()}
        results = case.forward(*leaves.values())
        results = results if isinstance(results, dict) else {"y": results}
        y, inputs = results["y"], dict(case.inputs)
        gradients = {}
        assert y.requires_grad or not case.differentiable or not y.is_floating_point(), name
        if y.requires_grad:
            names = case.differentiable
            inputs["dy"] = as_input(self.rng(name + "/dy").uniform(-1, 1, tuple(y.shape)))
            found = torch.autograd.grad(y, [leaves[n] for n in names], inputs["dy"], allow_unused=True)
            gradients = {f"d{n}": g for n, g in zip(names, found) if g is not None}
        results = {n: r if r.is_floating_point() else r.to(torch.int64) for n, r in results.items()}
        self.store(name, case.op, case.args, inputs, results | gradients)

    def write(self):
        """As Family's, into the folder."""
        FOLDER.mkdir(exist_ok=True)
        super().write(FOLDER)


# {family: {OpInfo: translator(call, *the sample's arguments) -> Case}}; call is the OpInfo's own function.
FAMILIES = {}


def of(family, *names):
    def register(translator):
        for name in names:
            FAMILIES.setdefault(family, {})[name] = translator
        return translator

    return register


def left_out_if(condition, reason):
    if condition:
        raise LeftOut(reason)


def is_float(x):
    return isinstance(x, torch.Tensor) and x.dtype == torch.float32


def as_axes(x, dim):
    """The axes of a reduction as Mica has them: none are all."""
    left_out_if(x.dim() == 0 and dim not in (None, (), []), "an axis of a scalar")
    return [] if dim is None else [dim] if isinstance(dim, int) else list(dim)


def axis_of(x, dim):
    return as_axes(x, int(dim))[0]
