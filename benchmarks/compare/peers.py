"""Who is compared in which workload: each peer by a name to print, its worker and the mode that the worker is told."""
import collections

Peer = collections.namedtuple("Peer", "name script mode")
Workload = collections.namedtuple("Workload", "title peers")


def pytorch(*modes):
    return [Peer(f"PyTorch {mode}", "pytorch_worker.py", mode) for mode in modes]


def tensorflow(*modes):
    return [Peer(f"Keras on TensorFlow, {mode}", "keras_worker.py", mode) for mode in modes]


def jax(*modes):
    return [Peer(f"Keras on {mode.replace('jax', 'JAX')}", "keras_worker.py", mode) for mode in modes]


TRAINING = (pytorch("eager", "compiled", "compiled, autotuned") + tensorflow("tf.function", "tf.function, XLA") +
            jax("jax"))
# Unrolled, JAX takes minutes to compile an LSTM, which is then slower.
RECURRENT = TRAINING + tensorflow("tf.function, unrolled")

WORKLOADS = {
    "cnn": Workload("a training step of the MNIST network, batches of 128 images, Adam",
                    pytorch("eager", "eager, channels_last", "compiled", "compiled, channels_last",
                            "compiled, autotuned") + tensorflow("train_on_batch") + TRAINING[3:]),
    "predict": Workload("the MNIST network's prediction of 1, 128 and 1024 images",
                        [Peer("ONNX Runtime", "inference_worker.py", "onnxruntime"),
                         Peer("OpenVINO, hint of latency", "inference_worker.py", "latency"),
                         Peer("OpenVINO, hint of throughput", "inference_worker.py", "throughput")] +
                        pytorch("eager", "eager, channels_last", "compiled", "compiled, channels_last",
                                "compiled, autotuned")),
    "rnn": Workload("a training step of a simple RNN on characters, 32 texts of 64, 256 units, Adam", RECURRENT),
    "lstm": Workload("a training step of an LSTM on characters, 32 texts of 64, 256 units, Adam", RECURRENT),
    "attention": Workload("a training step of a classifier by attention, 32 texts of 128 tokens, 2 blocks, Adam",
                          TRAINING),
    "mlp": Workload("a training step of dense layers 64-256-256-1, batches of 256 rows, Adam",
                    TRAINING + tensorflow("train_on_batch")),
    "matmul": Workload("products of float32 matrices, m x n x k",
                       [Peer("oneDNN (PyTorch's)", "matmul_worker.py", "onednn"),
                        Peer("oneDNN, b transposed", "matmul_worker.py", "onednn_transposed"),
                        Peer("MKL (torch.mm)", "matmul_worker.py", "mm"),
                        Peer("OpenBLAS (NumPy)", "matmul_worker.py", "numpy"),
                        Peer("XLA (JAX)", "matmul_worker.py", "jax")]),
    "memory": Workload("the peak of memory of a program that trains the MNIST network for an epoch",
                       [Peer("PyTorch eager", "mnist_pytorch.py", ""),
                        Peer("Keras on TensorFlow", "mnist_keras.py", "")]),
    "start": Workload("from the start of the process to the end of the MNIST network's first training step",
                      pytorch("eager", "compiled") + tensorflow("tf.function", "tf.function, XLA") + jax("jax")),
}
