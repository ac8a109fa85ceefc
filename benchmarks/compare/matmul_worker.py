"""Products of two float32 matrices, a [m,k] and b [k,n], neither known beforehand: oneDNN, MKL, OpenBLAS and XLA."""
import functools

import worker

import numpy as np


def numpy_product(a, b, threads):
    c = np.empty((len(a), b.shape[1]), "float32")
    return worker.repeat(lambda: np.matmul(a, b, out=c)), lambda: c


def torch_product(a, b, threads):
    import torch

    torch.set_num_threads(threads)
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    c = torch.empty(len(a), b.shape[1])

    def run(count):
        with torch.inference_mode():
            for _ in range(count):
                torch.mm(a, b, out=c)

    return run, lambda: c.numpy()


def onednn_product(a, b, threads, transposed=False):
    """The product behind PyTorch's compiled linear layers, whose weight is [n,k]: a view of b, or transposed before."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.from_numpy(a), torch.from_numpy(b).T
    if transposed:
        b = b.contiguous()
    product = torch.ops.mkldnn._linear_pointwise.default

    def run(count):
        with torch.inference_mode():
            for _ in range(count):
                c = product(a, b, None, "none", [], "")
        return c

    return run, lambda: run(1).numpy()


def jax_product(a, b, threads):
    import jax

    a, b = jax.device_put(a), jax.device_put(b)
    product = jax.jit(lambda a, b: a @ b)

    def run(count):
        for _ in range(count):
            c = product(a, b)
        return c.block_until_ready()

    return run, lambda: run(1)


PRODUCTS = {"numpy": numpy_product, "mm": torch_product, "onednn": onednn_product, "jax": jax_product,
            "onednn_transposed": functools.partial(onednn_product, transposed=True)}


def prepare(workload, mode, threads, w):
    cases, results, expected = {}, [], []
    for name in [name.removesuffix(".a") for name in w if name.endswith(".a")]:
        run, result = PRODUCTS[mode](w[f"{name}.a"], w[f"{name}.b"], threads)
        run(1)
        cases[name] = run
        results.append(result())
        expected.append(w[f"{name}.expected"])
    return cases, {"difference": worker.largest_difference(results, expected)}


if __name__ == "__main__":
    worker.serve(prepare)
