#!/usr/bin/env python3
"""Compares registers, shared memory and stack of each CUDA kernel with cuda/budget.txt.

  tools/cuda_budget.py build/release            compares what the build there has compiled; exits with 1 where it differs
  tools/cuda_budget.py --update build/release   writes cuda/budget.txt

The numbers are those of one compiler and one architecture, so the build must be Release, by nvcc 13.0 and for 90 alone;
for any other one the comparison exits with 77, which ctest reads as skipped.
"""

import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGET = ROOT / "cuda" / "budget.txt"
NVCC = "13.0"
ARCHITECTURE = "90"
COLUMNS = ("instantiations", "registers", "shared", "stack")
HEADER = f"""\
# What each kernel takes, the most of its instantiations, as ptxas of CUDA {NVCC} says for sm_{ARCHITECTURE}: registers of a thread, bytes
# of static shared memory of a block, bytes of stack of a thread. Written by: tools/cuda_budget.py --update build/release
"""


def cache_of(build):
    """The entries of CMakeCache.txt, and the version of nvcc."""
    entries = {}
    for line in (build / "CMakeCache.txt").read_text().splitlines():
        found = re.match(r"([^:#/]+):[^=]+=(.*)", line)
        if found:
            entries[found[1]] = found[2]
    for file in build.glob("CMakeFiles/*/CMakeCUDACompiler.cmake"):
        found = re.search(r'set\(CMAKE_CUDA_COMPILER_VERSION "([\d.]+)"', file.read_text())
        if found:
            entries["nvcc"] = found[1]
    return entries


def unfit(build):
    """Why the numbers of a build are not comparable; or None."""
    cache = cache_of(build)
    if "nvcc" not in cache:
        return "it has no CUDA"
    if not cache["nvcc"].startswith(NVCC + "."):
        return f"it is by nvcc {cache['nvcc']}, and the budget by {NVCC}"
    if cache.get("MICA_CUDA_ARCHITECTURES") != ARCHITECTURE:
        return f"it is for {cache.get('MICA_CUDA_ARCHITECTURES')}, and the budget for {ARCHITECTURE}"
    if cache.get("CMAKE_BUILD_TYPE") != "Release":
        return f"it is a {cache.get('CMAKE_BUILD_TYPE')} build, and the budget of Release"
    return None


def name_of(demangled):
    """softmax_kernel, of void mica::kernels::cuda::(anonymous namespace)::softmax_kernel<float, 4>(float const*, ...)."""
    plain = demangled.replace("(anonymous namespace)::", "")
    return re.split(r"[<(]", plain)[0].split("::")[-1].split(" ")[-1]


def compiled(build):
    """{(file, kernel): {column: number}} and the spills, as ["file kernel: 8 bytes"]."""
    kernels, spills = {}, []
    folder = build / "CMakeFiles" / "mica_cuda.dir" / "cuda"
    for source in sorted((ROOT / "cuda").rglob("*.cu")):
        file = str(source.relative_to(ROOT / "cuda"))
        log = folder / (file + ".o.ptxas")
        if not log.exists():
            sys.exit(f"{log} is missing: build the library first")
        text = log.read_text()
        names = re.findall(r"Compiling entry function '(\S+)'", text)
        plain = subprocess.run(["c++filt"], input="\n".join(names), text=True, capture_output=True, check=True).stdout
        # What follows the line of a kernel, up to the next one.
        parts = re.split(r"Compiling entry function '\S+'.*", text)[1:]
        for demangled, part in zip(plain.splitlines(), parts):
            key = (file, name_of(demangled))
            stack, stores, loads = map(
                int, re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part).groups())
            shared = re.search(r"(\d+) bytes smem", part)
            found = {
                "instantiations": 1,
                "registers": int(re.search(r"Used (\d+) registers", part)[1]),
                "shared": int(shared[1]) if shared else 0,
                "stack": stack,
            }
            if stores or loads:
                spills.append(f"{file} {demangled}: {stores} bytes of registers stored, {loads} loaded")
            known = kernels.setdefault(key, dict.fromkeys(COLUMNS, 0))
            for column, number in found.items():
                known[column] = known[column] + 1 if column == "instantiations" else max(known[column], number)
    return kernels, spills


def read_budget():
    budget = {}
    if BUDGET.exists():
        for line in BUDGET.read_text().splitlines():
            words = line.split()
            if len(words) == 2 + len(COLUMNS) and words[2].isdigit():
                budget[words[0], words[1]] = dict(zip(COLUMNS, map(int, words[2:])))
    return budget


def write_budget(kernels):
    rows = [("file", "kernel", *COLUMNS)]
    rows += [(*key, *(str(kernels[key][column]) for column in COLUMNS)) for key in sorted(kernels)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    with BUDGET.open("w") as out:
        out.write(HEADER)
        for row in rows:
            cells = [cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
            out.write("  ".join(cells).rstrip() + "\n")


def differences(kernels, budget):
    for key in sorted(kernels.keys() | budget.keys()):
        name = " ".join(key)
        if key not in budget:
            yield f"{name} is not in the budget"
        elif key not in kernels:
            yield f"{name} is in the budget and does not exist"
        else:
            for column in COLUMNS:
                now, most = kernels[key][column], budget[key][column]
                if now > most:
                    yield f"{name}: {column} {now}, and the budget is {most}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write cuda/budget.txt")
    parser.add_argument("build", type=pathlib.Path, help="a build folder")
    arguments = parser.parse_args()

    reason = unfit(arguments.build)
    if reason:
        print(f"{arguments.build} cannot be compared: {reason}")
        sys.exit(77)
    kernels, spills = compiled(arguments.build)
    if spills:
        sys.exit("Kernels spill registers:\n  " + "\n  ".join(spills))
    if arguments.update:
        write_budget(kernels)
        return
    budget = read_budget()
    found = list(differences(kernels, budget))
    if found:
        sys.exit("Kernels and cuda/budget.txt differ:\n  " + "\n  ".join(found) +
                 "\nWhere that is as it should be: tools/cuda_budget.py --update build/release")
    less = [key for key in kernels if kernels[key] != budget[key]]
    print(f"{len(kernels)} kernels are within cuda/budget.txt" + (f", {len(less)} of them below it" if less else ""))


main()
