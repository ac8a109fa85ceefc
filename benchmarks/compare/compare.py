"""Mica beside the frameworks of the field, on this machine with the same number of threads: make compare.

Each framework, in each of its modes, is a process of its own (worker.py). They take turns: everyone works for a part of
a second while the others sleep, then the next, and so on for several rounds, of which each one's best counts. Before
that, all train 20 steps from Mica's weights on the same batch, or compute the same result; who comes to another loss or
result is reported, and the exit status is 1.
"""
import argparse
import importlib.metadata
import json
import pathlib
import platform
import subprocess
import sys
import time

import table
from peers import WORKLOADS, Peer
from process import HERE, Failure, Worker, environment, python, run, use_processors

ROOT = HERE.parent.parent
LARGEST_LOSS_DIFFERENCE = 0.01  # relative
LARGEST_DIFFERENCE = 1e-4  # of results, relative to the largest value
PAUSE = 0.3  # seconds, in which the last one's threads fall asleep
MICA = Peer("Mica", None, "")


def losses_of_mica(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        file.seek(header["losses"]["data_offsets"][0], 1)
        return list(memoryview(file.read(21 * 8)).cast("d"))


class Comparison:
    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = pathlib.Path(arguments.folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = environment(arguments.threads, self.folder)
        self.bench = arguments.bench / "mica_step"
        self.threads = str(arguments.threads)

    def say(self, text):
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def log(self, workload, peer):
        name = f"{workload} {peer.name}".replace(",", "").replace(" ", "-")
        return self.folder / f"{name}.log"

    def machine(self):
        out = subprocess.check_output([self.bench, "--machine", self.threads], env=self.environment)
        model = platform.processor()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
        return {"processor": model, "threads": self.arguments.threads, **json.loads(out)}

    def check(self, row, losses):
        """What is wrong with a peer's results, or nothing."""
        if "losses" in row:
            off = [abs(a - b) / abs(b) for a, b in zip(row["losses"], losses, strict=True)]
            if not all(each <= LARGEST_LOSS_DIFFERENCE for each in off):
                return f"its losses are up to {max(off):.1%} off Mica's"
        elif not row["difference"] <= LARGEST_DIFFERENCE:
            return f"its results are {row['difference']:.1e} off Mica's"

    def steps(self, name):
        """A workload of steps: training, prediction, products."""
        mica = Worker([self.bench, name, self.threads, "--serve", self.folder], self.environment, self.log(name, MICA))
        cases = {case: {**about, "display": table.display(name, case)} for case, about in mica.ready["cases"].items()}
        rows, workers = [{"peer": "Mica", "seconds": {}}], [mica]
        losses = None
        if name not in ("predict", "matmul"):
            losses = rows[0]["losses"] = losses_of_mica(self.folder / f"{name}.safetensors")
        for peer in WORKLOADS[name].peers:
            self.say(f"{name}: starting {peer.name}")
            row = {"peer": peer.name, "seconds": {}}
            rows.append(row)
            try:
                command = python(peer.script, name, peer.mode, self.threads, self.folder)
                worker = Worker(command, self.environment, self.log(name, peer))
                row.update({key: worker.ready[key] for key in ("losses", "difference") if key in worker.ready})
                row["cases"] = worker.ready["cases"]
                wrong = self.check(row, losses)
                if wrong:
                    row["failed"] = wrong
                workers.append(worker)
            except Failure as failure:
                row["error"] = str(failure)
                workers.append(None)
        for r in range(self.arguments.rounds):
            self.say(f"{name}: round {r + 1} of {self.arguments.rounds}")
            for case in cases:
                for i, row in enumerate(rows):
                    if workers[i] is None or case not in row.get("cases", cases):
                        continue
                    time.sleep(PAUSE)
                    try:
                        took = workers[i].round(case, self.arguments.seconds)
                        row["seconds"][case] = min(took, row["seconds"].get(case, took))
                    except Failure as failure:
                        row["error"] = str(failure)
                        row["seconds"] = {}
                        workers[i] = None
        for worker in workers:
            if worker is not None:
                worker.end()
        return {"cases": cases, "rows": rows}

    def programs(self, name, command_of, measure):
        """A workload of whole programs: each is run anew every time, and the least counts."""
        case = "largest" if name == "memory" else "first step"
        rows = [{"peer": peer.name, "seconds": {}} for peer in (MICA, *WORKLOADS[name].peers)]
        for r in range(self.arguments.program_rounds):
            for peer, row in zip((MICA, *WORKLOADS[name].peers), rows):
                if "error" in row:
                    continue
                self.say(f"{name}: {peer.name}, round {r + 1} of {self.arguments.program_rounds}")
                try:
                    value = measure(*run(command_of(peer), self.environment, self.log(name, peer)))
                    row["seconds"][case] = min(value, row["seconds"].get(case, value))
                except Failure as failure:
                    row["error"] = str(failure)
        return {"cases": {case: {"display": table.display(name, case)}}, "rows": rows}

    def memory(self):
        data = ROOT / "examples/data/mnist"
        program = self.arguments.examples / "mnist"

        def command(peer):
            if peer is MICA:
                return [program, "--epochs", "1", "--threads", self.threads, "--data", data, "--save",
                        self.folder / "mnist.safetensors"]
            return python(peer.script, self.threads, data)

        return self.programs("memory", command, lambda seconds, megabytes: megabytes)

    def start(self):
        def command(peer):
            if peer is MICA:
                return [self.bench, "cnn", self.threads, "--first-step"]
            return python(peer.script, "cnn", peer.mode, self.threads, "--first-step")

        return self.programs("start", command, lambda seconds, megabytes: seconds)

    def workload(self, name):
        try:
            result = {"memory": self.memory, "start": self.start}.get(name, lambda: self.steps(name))()
        except Failure as failure:  # Mica's own
            result = {"cases": {}, "rows": [{"peer": "Mica", "seconds": {}, "error": str(failure)}]}
        self.say("")
        return {"title": WORKLOADS[name].title, **result}


def versions():
    names = [line.split("==")[0] for line in (HERE / "requirements.txt").read_text().split()]
    installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
    return {name: installed.get(name, "missing") for name in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME",
                        help=" ".join(WORKLOADS))
    parser.add_argument("--threads", type=int, default=2, help="of everyone; each gets so many processors")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.4, help="of a round")
    parser.add_argument("--program-rounds", type=int, default=3, help="of memory and start, which run whole programs")
    parser.add_argument("--folder", default=ROOT / "build/compare", help="of results.json and the logs")
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "build/bench/benchmarks", help="of mica_step")
    parser.add_argument("--examples", type=pathlib.Path, default=ROOT / "build/release/examples", help="of mnist")
    arguments = parser.parse_args()
    use_processors(arguments.threads)
    for program in (arguments.bench / "mica_step", arguments.examples / "mnist"):
        if not program.exists():
            sys.exit(f"compare.py: there is no {program}; make compare builds it")
    comparison = Comparison(arguments)
    results = {"machine": comparison.machine(), "versions": versions(), "workloads": {}}
    table.print_machine(results)
    for name in arguments.workloads:
        # Whatever else runs may have slowed the measurement of the peak too: the largest counts.
        peak = max(results["machine"]["peak_gflops"], comparison.machine()["peak_gflops"])
        results["machine"]["peak_gflops"] = peak
        results["workloads"][name] = comparison.workload(name)
        table.print_workload(name, results["workloads"][name], results["machine"])
        (comparison.folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    table.print_summary(results)
    print(f"\nAll of it: {comparison.folder / 'results.json'}")
    failures = table.failures(results)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
