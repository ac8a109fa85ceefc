#!/usr/bin/env python3
"""Writes docs/ops.md from the code: each op, whether it has a gradient and runs on CUDA, and its golden cases.

    tools/ops_page.py          writes the page
    tools/ops_page.py --check  exits with 1 when the page is not what the code says
"""

import json
import pathlib
import re
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/ops.md"

# Golden cases whose name is not their op's.
GOLDEN_OF = {
    "sparse_categorical_crossentropy": "sparse_cross_entropy",
    "categorical_crossentropy": "cross_entropy",
}


def lists():
    """{MICA_..._OPS: [functions]} of scalar.h."""
    text = (ROOT / "include/mica/ops/scalar.h").read_text().replace("\\\n", " ")
    found = {}
    for name, body in re.findall(r"#define (MICA_\w+_OPS)\(X\)(.*)", text):
        found[name] = re.findall(r"X\((\w+), \w+\)", body)
    return found


def declarations(path):
    """The functions that a header declares, in order: (name, docstring above it)."""
    docs = []
    for line in path.read_text().splitlines():
        comment = re.match(r"\s*///? ?(.*)", line)
        if comment:
            docs.append(comment.group(1))
            continue
        declared = re.match(r"(?:inline )?(?:Tensors?|TopK|BatchNormResult|RecurrentResult) (\w+)\(", line)
        if declared:
            yield declared.group(1), " ".join(docs)
        elif not line.strip():
            docs = []


def functions():
    """{name: bodies} of the functions in src/ops."""
    bodies = {}
    for path in sorted((ROOT / "src/ops").glob("*.cpp")):
        text = path.read_text()
        signature = r"^(?=\w)(?!namespace|struct|class|enum|using|template)[\w:&<>, *]+?\b(\w+)\([^;]*?\{"
        starts = list(re.finditer(signature, text, re.M))
        for i, start in enumerate(starts):
            end = starts[i + 1].start() if i + 1 < len(starts) else len(text)
            bodies[start.group(1)] = bodies.get(start.group(1), "") + text[start.start() : end]
    for path in sorted((ROOT / "include/mica/ops").glob("*.h")):
        for name, body in re.findall(r"^inline Tensors? (\w+)\([^{;]*\{(.*)", path.read_text(), re.M):
            bodies[name] = bodies.get(name, "") + body
    for op_list, implementation in IMPLEMENTATIONS.items():
        bodies |= dict.fromkeys(lists()[op_list], f"{implementation}(")
    return bodies


def golden_counts():
    """{op: number of cases} over tests/golden/*.safetensors and PyTorch's own samples in tests/golden/opinfo."""
    counts = {}
    for path in sorted((ROOT / "tests/golden").rglob("*.safetensors")):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
        for case in json.loads(header["__metadata__"]["cases"]).values():
            op = GOLDEN_OF.get(case["op"], case["op"])
            counts[op] = counts.get(op, 0) + 1
    return counts


# What the functions of a list have in common.
IMPLEMENTATIONS = {"MICA_UNARY_OPS": "unary", "MICA_BINARY_OPS": "binary", "MICA_COMPARE_OPS": "compare"}


class Kernels:
    """Which kernels an op runs, by what its function calls, and what that calls."""

    def __init__(self):
        definitions = (ROOT / "src/kernels/kernels.def").read_text()
        self.all = re.findall(r"^KERNEL\((\w+),", definitions, re.M)
        self.cuda = set(re.findall(r"\btable\.(\w+) =", (ROOT / "cuda/table.cu").read_text()))
        self.bodies = functions()

    def of(self, name, seen=None):
        seen = set() if seen is None else seen
        if name in seen or name not in self.bodies:
            return set()
        seen.add(name)
        body = self.bodies[name]
        used = {k for k in self.all if re.search(rf"(\.|k\.)\s*{k}\(", body)}
        for called in set(re.findall(r"(?<![.\w])(\w+)\(", body)) - {name}:
            used |= self.of(called, seen)
        return used


def page():
    scalar, golden, kernels = lists(), golden_counts(), Kernels()
    out = [
        "# Ops",
        "",
        "Generated from the code by tools/ops_page.py. *Gradient*: a tape records it (and each of those passes a float64",
        "gradient check). *CUDA*: all kernels that it may run are there (the CPU has all; -: it has none of its own).",
        "*Golden*: cases of tests/golden, computed by PyTorch and NumPy, PyTorch's own samples among them; those that are left",
        "out, and why: tests/golden/opinfo/left_out.md.",
        "",
    ]
    total = [0, 0]
    for path in sorted((ROOT / "include/mica/ops").glob("*.h")):
        if path.stem in ("scalar", "scalar_math", "recurrent_kind"):
            continue
        names = {}
        for name, doc in declarations(path):
            names[name] = names.get(name, "") + " " + doc
        if path.stem == "elementwise":
            names = dict.fromkeys(scalar["MICA_UNARY_OPS"] + scalar["MICA_BINARY_OPS"], "Differentiable")
        family_differentiable = "All are differentiable" in path.read_text()
        if path.stem == "compare":
            names = dict.fromkeys(scalar["MICA_COMPARE_OPS"], "") | names
        names = {n: d for n, d in names.items() if n not in ("unary", "binary", "scalar_like", "compare")}
        out += [f"## {path.stem}", "", "| op | gradient | CUDA | golden |", "| --- | --- | --- | --- |"]
        for name, doc in names.items():
            used = kernels.of(name)
            cuda = "-" if not used else "yes" if used <= kernels.cuda else "no"
            gradient = "yes" if family_differentiable or "ifferentiable" in doc else "-"
            total[0] += 1
            total[1] += golden.get(name, 0)
            out.append(f"| {name} | {gradient} | {cuda} | {golden.get(name, 0) or '-'} |")
        out.append("")
    out += [f"{total[0]} ops, {total[1]} golden cases; {len(kernels.all)} kernels, {len(kernels.cuda)} on CUDA.", ""]
    return "\n".join(out)


if __name__ == "__main__":
    if "--check" in sys.argv:
        if PAGE.read_text() != page():
            sys.exit("docs/ops.md is not what the code says: run tools/ops_page.py")
    else:
        PAGE.write_text(page())
