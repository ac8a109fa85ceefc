"""What the workers of make compare have in common. A worker is one process of one framework in one mode, and compare.py
speaks with it in lines:

  python X_worker.py WORKLOAD MODE THREADS FOLDER starts it. It prints, once it has warmed up,
      {"ready": true, "cases": [...], "losses": [...]} of a training: before each of 20 steps from Mica's weights, and
          after them
      {"ready": true, "cases": [...], "difference": d} of anything else: the largest difference from Mica's results
      {"error": "..."} where it cannot do it; then it ends
  round CASE SECONDS works for so long, and is answered
      {"seconds": s} of one step, the best
  python X_worker.py WORKLOAD MODE THREADS --first-step builds the network, trains one step and prints {"loss": ...}

FOLDER/WORKLOAD.safetensors is what mica_step wrote: x, y, the initial weights by Mica's names, and its results. Between
rounds a worker waits for its next line. What a framework's threads do after a round is left as the framework has it:
compare.py gives them time to fall asleep.
"""
import json
import os
import struct
import sys
import time

BUNCH = 0.02  # seconds: long enough for the clock, and for what a framework does in the background
WARM_UP = 0.5  # seconds


def load(path):
    """The tensors of a .safetensors file as NumPy's arrays."""
    import numpy

    types = {"F32": "f4", "F64": "f8", "I64": "i8", "U8": "u1"}
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = numpy.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = array.copy()
    return tensors


def time_step(run, seconds):
    """Seconds of one step, the best of `seconds` of them. run(n) does n steps and returns when they are done."""

    def timed(count):
        start = time.perf_counter()
        run(count)
        return time.perf_counter() - start

    best = total = timed(1)
    count = max(1, int(BUNCH / best))
    while total < seconds:
        took = timed(count)
        total += took
        best = min(best, took / count)
    return best


def repeat(step):
    """run(n) of a step that is done when it returns."""

    def run(count):
        for _ in range(count):
            step()

    return run


def training_case(step, finish=float):
    """The one case of a training, and the losses of its first 20 steps and after them. step() returns the loss before
    its update, or a promise of it that finish() waits for."""
    losses = [float(finish(step())) for _ in range(21)]

    def run(count):
        for _ in range(count):
            loss = step()
        finish(loss)

    return {"step": run}, {"losses": losses}


def largest_difference(results, expected):
    """Of arrays from Mica's, relative to the largest of its values."""
    import numpy

    return max(float(numpy.abs(numpy.asarray(a) - b).max() / numpy.abs(b).max()) for a, b in zip(results, expected))


def serve(prepare, first_step=None):
    """The whole of a worker. prepare(workload, mode, threads, tensors) gives the cases, {name: run}, and what is said
    of them at first; first_step(workload, mode, threads) a loss."""
    # What libraries print goes to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**message):
        print(json.dumps(message), file=answers, flush=True)

    workload, mode, threads, folder = sys.argv[1:]
    try:
        if folder == "--first-step":
            answer(loss=float(first_step(workload, mode, int(threads))))
            answers.flush()
            os._exit(0)  # what a framework does at its end is not asked for
        cases, said = prepare(workload, mode, int(threads), load(f"{folder}/{workload}.safetensors"))
        for run in cases.values():
            time_step(run, WARM_UP)
    except Exception as error:
        import traceback

        traceback.print_exc()
        answer(error=f"{type(error).__name__}: {error}".splitlines()[0])
        return
    answer(ready=True, cases=list(cases), **said)
    for line in sys.stdin:
        _, case, seconds = line.split()
        answer(seconds=time_step(cases[case], float(seconds)))
