#!/usr/bin/env python3
"""Writes docs/ops.md from the code: each op, whether it has a gradient, and its golden cases.

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
    """{MICA_..._OPS: [functions]} of scalar_unary.h and scalar_binary.h."""
    headers = sorted((ROOT / "include/mica/ops").glob("scalar_*ary.h"))
    text = "".join(path.read_text() for path in headers).replace("\\\n", " ")
    found = {}
    for name, body in re.findall(r"#define (MICA_\w+_OPS)\(X\)(.*)", text):
        found[name] = re.findall(r"X\((\w+), \w+\)", body)
    return found


def declarations(path):
    """The functions that a header declares, in order: (name, docstring above it)."""
    docs, declared = [], None
    for line in path.read_text().splitlines():
        comment = re.match(r"\s*///? ?(.*)", line)
        if comment:
            docs = [] if declared else docs
            declared = None
            docs.append(comment.group(1))
            continue
        declared = re.match(r"(?:inline )?(?:Tensors?|TopK|BatchNormResult|RecurrentResult) (\w+)\(", line)
        if declared:
            yield declared.group(1), " ".join(docs)
        elif not line.strip():
            docs = []


def golden_counts():
    """{op: number of cases} over tests/golden/*.safetensors and PyTorch's own samples in tests/golden/opinfo."""
    counts = {}
    for path in sorted((ROOT / "tests/golden").rglob("*.safetensors")):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
        for case in json.loads(header["__metadata__"]["cases"]).values():
            op = GOLDEN_OF.get(case["op"], case["op"])
            if case["op"] == "binary_crossentropy" and case["args"].get("from_logits"):
                op = "sigmoid_cross_entropy"
            counts[op] = counts.get(op, 0) + 1
    return counts


def page():
    scalar, golden = lists(), golden_counts()
    kernels = re.findall(r"^KERNEL\((\w+),", (ROOT / "src/kernels/kernels.def").read_text(), re.M)
    out = [
        "# Ops",
        "",
        "Generated from the code by tools/ops_page.py. *Gradient*: a tape records it (and each of those passes a float64",
        "gradient check). *Golden*: cases of tests/golden, computed by PyTorch and NumPy, PyTorch's own samples among them;",
        "those that are left out, and why: tests/golden/opinfo/left_out.md. All run on the CPU and on CUDA, since each kernel of",
        "src/kernels/kernels.def is written for both, or Mica would not link.",
        "",
    ]
    total = [0, 0]
    for path in sorted((ROOT / "include/mica/ops").glob("*.h")):
        if path.stem.startswith("scalar") or path.stem == "recurrent_kind":
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
        out += [f"## {path.stem}", "", "| op | gradient | golden |", "| --- | --- | --- |"]
        for name, doc in names.items():
            gradient = "yes" if family_differentiable or "ifferentiable" in doc else "-"
            total[0] += 1
            total[1] += golden.get(name, 0)
            out.append(f"| {name} | {gradient} | {golden.get(name, 0) or '-'} |")
        out.append("")
    out += [f"{total[0]} ops, {total[1]} golden cases; {len(kernels)} kernels.", ""]
    return "\n".join(out)


if __name__ == "__main__":
    if "--check" in sys.argv:
        if PAGE.read_text() != page():
            sys.exit("docs/ops.md is not what the code says: run tools/ops_page.py")
    else:
        PAGE.write_text(page())
