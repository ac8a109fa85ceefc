"""Writes PyTorch's own sample cases (OpInfo, ModuleInfo) for the ops and layers that Mica has as golden vectors, and
opinfo/left_out.md, which counts the others with their reasons; see README.md. In float64 from the float32 samples."""

import random
import zlib

import numpy as np
import opinfo_arrays  # noqa: F401, for what it registers
import opinfo_modules
import opinfo_ops  # noqa: F401
import torch
from opinfo_cases import FAMILIES, FOLDER, LeftOut, Samples
from torch.testing._internal.common_methods_invocations import op_db


def same_numbers_for(name):
    """Samples are drawn from global generators."""
    seed = zlib.crc32(name.encode())
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def name_of(info):
    return info.name + (f".{info.variant_test_name}" if info.variant_test_name else "")


def write_ops():
    """All families of ops; returns the names of the OpInfos that Mica has no op for."""
    infos = {name_of(info): info for info in op_db}
    families, without = {}, []
    for family, translators in FAMILIES.items():
        unknown = sorted(set(translators) - set(infos))
        assert not unknown, f"no OpInfo is called {unknown}"
        families |= dict.fromkeys(translators, family)
    files = {family: Samples(family) for family in FAMILIES}
    for name, info in infos.items():
        same_numbers_for(name)
        if name not in families:
            without.append(name)
            continue
        family = families[name]
        dtype = torch.int64 if name == "nn.functional.one_hot" else torch.float32
        for number, sample in enumerate(info.sample_inputs("cpu", dtype)):
            arguments = dict(sample.kwargs)
            if arguments.get("dtype") == torch.float32:
                del arguments["dtype"]

            def translate():
                if "dtype" in arguments:
                    raise LeftOut("a dtype other than the input's")
                return FAMILIES[family][name](info.op, sample.input, *sample.args, **arguments)

            try:
                files[family].add_sample(name, number, translate)
            except Exception as error:
                raise RuntimeError(f"{name}, sample {number}: {sample}"[:2000]) from error
    for file in files.values():
        file.write()
    return sorted(without)


def summary(without, modules_without):
    rows = {family: list(counts.items()) for family, counts in Samples.counts.items()}
    everything = [row for family in rows.values() for row in family]
    seen = lambda of: sum(counts.seen for _, counts in of)
    stored = lambda of: sum(counts.stored for _, counts in of)
    again = lambda of: sum(counts.again for _, counts in of)
    out = [
        "# PyTorch's samples, and which Mica replays",
        "",
        f"Written by opinfo.py with PyTorch {torch.__version__.split('+')[0]}: {seen(everything)} float32 samples of "
        "the OpInfos and",
        f"ModuleInfos that Mica has a counterpart for. {stored(everything)} are here, and replayed by tests/replay; "
        f"{again(everything)} more are the",
        "same as one of them in function, arguments and shapes; "
        f"{seen(everything) - stored(everything) - again(everything)} are left out for the reasons below.",
        "",
    ]
    for family, of in rows.items():
        out += [f"## {family}", "", f"{seen(of)} samples, {stored(of)} replayed, {again(of)} the same as another.", ""]
        out += ["| samples of | seen | replayed | the same | left out |", "| --- | --- | --- | --- | --- |"]
        for name, counts in of:
            reasons = "; ".join(f"{count} {reason}" for reason, count in counts.left_out.items())
            out.append(f"| {name} | {counts.seen} | {counts.stored} | {counts.again} | {reasons or '-'} |")
        out.append("")
    out += ["## Without a counterpart", ""]
    out += ["OpInfos of what Mica does not have, or has under another of these names:", ""]
    out += [", ".join(without) + ".", ""]
    out += ["Modules:", "", ", ".join(modules_without) + ".", ""]
    return "\n".join(out)


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums of float64 to the bit
    without = write_ops()
    (FOLDER / "left_out.md").write_text(summary(without, opinfo_modules.write_modules(same_numbers_for)))
