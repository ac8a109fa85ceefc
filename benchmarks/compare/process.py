"""The processes of make compare: their environment, workers that are asked over a pipe, programs run as a whole."""
import json
import os
import pathlib
import select
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
START_LIMIT = 1200  # seconds: compilers take their time
ROUND_LIMIT = 120
# What somebody has set for these would not be what the comparison says that it measures.
UNSET = ("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "DNNL_", "TF_", "XLA_", "JAX_", "KERAS_", "TORCH",
         "ORT_")


def environment(threads, folder):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(UNSET)}
    count = str(threads)
    return {**kept, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count,
            "TF_CPP_MIN_LOG_LEVEL": "1", "JAX_PLATFORMS": "cpu", "KERAS_HOME": str(folder / "keras"),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}


def use_processors(count):
    """Gives this process, and those that it starts, `count` processors, on cores of their own as far as there are."""
    cores = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        try:
            core = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:
            core = str(cpu)
        cores.setdefault(core, []).append(cpu)
    first = [cpus[0] for cpus in cores.values()]
    cpus = (first + [cpu for cpus in cores.values() for cpu in cpus[1:]])[:count]
    if len(cpus) < count:
        sys.exit(f"compare.py: {count} threads need {count} processors, and there are {len(cpus)} (--threads)")
    os.sched_setaffinity(0, cpus)


def python(script, *arguments):
    return [sys.executable, str(HERE / script), *arguments]


class Failure(Exception):
    """Why a worker gives no numbers."""


def start(command, environment, log, **pipes):
    with open(log, "w") as file:
        try:
            return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=file, text=True, **pipes)
        except OSError as error:
            raise Failure(str(error)) from error


class Worker:
    """A process that answers a line with a line of JSON. What it prints otherwise goes to the file `log`."""

    def __init__(self, command, environment, log):
        self.log = log
        self.process = start(command, environment, log, stdin=subprocess.PIPE)
        self.ready = self.read(START_LIMIT)

    def read(self, limit):
        if not select.select([self.process.stdout], [], [], limit)[0]:
            self.end()
            raise Failure(f"no answer in {limit} s")
        line = self.process.stdout.readline()
        if not line:
            self.end()
            raise Failure(f"ended with status {self.process.returncode}; see {self.log.name}")
        answer = json.loads(line)
        if "error" in answer:
            self.end()
            raise Failure(answer["error"])
        return answer

    def round(self, case, seconds):
        try:
            self.process.stdin.write(f"round {case} {seconds}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # read() finds out
        return self.read(ROUND_LIMIT)["seconds"]

    def end(self):
        self.process.kill()
        self.process.wait()


def run(command, environment, log):
    """Runs a program to its end: the seconds until its first line of JSON, and its largest memory in MB."""
    begin = time.perf_counter()
    seconds = None
    process = start(command, environment, log)
    for line in process.stdout:
        if seconds is None and line.startswith("{"):
            seconds = time.perf_counter() - begin
    # This process is small, so that what a child takes over from it does not count.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failure(f"ended with status {process.returncode}; see {log.name}")
    return seconds, usage.ru_maxrss / 1024
