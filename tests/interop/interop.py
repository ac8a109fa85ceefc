"""Carries a model between Mica and safetensors, PyTorch, Keras and NumPy, both ways, and compares what it predicts.

    python3 -m venv build/interop && build/interop/bin/pip install -r tests/interop/requirements.txt
    build/interop/bin/python tests/interop/interop.py build/release/tests/interop/mica_interop

The model of interop.cpp: images [n,12,10,3] -> Conv2D(4, 3x3, relu) -> MaxPool2D(2x2) -> Conv2D(6, 3x2, tanh) -> Flatten
-> Dense(7, relu) -> Dense(5, softmax).
"""

import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

TOLERANCE = 1e-5
failed = False


def report(what, difference):
    global failed
    good = difference <= TOLERANCE
    failed |= not good
    print(f"{what:58} {difference:.1e}{'' if good else '   MORE THAN ' + str(TOLERANCE)}")


# --- PyTorch: filters [out,in,height,width], weights of a linear layer [out,in], images NCHW ---


class TorchModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv2d = torch.nn.Conv2d(3, 4, (3, 3))
        self.conv2d_1 = torch.nn.Conv2d(4, 6, (3, 2))
        self.dense = torch.nn.Linear(3 * 3 * 6, 7)
        self.dense_1 = torch.nn.Linear(7, 5)

    def forward(self, images):
        x = images.permute(0, 3, 1, 2)  # NHWC to NCHW
        x = torch.max_pool2d(torch.relu(self.conv2d(x)), 2)
        x = torch.tanh(self.conv2d_1(x))
        x = x.permute(0, 2, 3, 1).flatten(1)  # Mica flattens NHWC
        return torch.softmax(self.dense_1(torch.relu(self.dense(x))), 1)

    def from_mica(self, tensors):
        state = {}
        for name, tensor in tensors.items():
            layer, kind = name.split(".")
            if kind == "kernel":
                # HWIO to OIHW; [in,out] to [out,in]
                tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T
            state[f"{layer}.{'weight' if kind == 'kernel' else 'bias'}"] = tensor
        self.load_state_dict(state)

    def to_mica(self):
        tensors = {}
        for name, tensor in self.state_dict().items():
            layer, kind = name.split(".")
            if kind == "weight":
                tensor = tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
            tensors[f"{layer}.{'kernel' if kind == 'weight' else 'bias'}"] = tensor.contiguous()
        return tensors


# --- Keras: layouts and names are Mica's ---


def keras_model():
    return keras.Sequential([
        keras.Input((12, 10, 3)),
        keras.layers.Conv2D(4, (3, 3), activation="relu", name="conv2d"),
        keras.layers.MaxPooling2D((2, 2)),
        keras.layers.Conv2D(6, (3, 2), activation="tanh", name="conv2d_1"),
        keras.layers.Flatten(),
        keras.layers.Dense(7, activation="relu", name="dense"),
        keras.layers.Dense(5, activation="softmax", name="dense_1"),
    ])


def main(program):
    keras.config.set_image_data_format("channels_last")
    keras.utils.set_random_seed(3)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)

        def mica(*arguments):
            return subprocess.run([program, *arguments], check=True, text=True, stdout=subprocess.PIPE).stdout

        mica("write", folder)
        images = np.load(folder / "images.npy")
        expected = np.load(folder / "predictions.npy")

        # NumPy opens what Mica wrote.
        with np.load(folder / "arrays.npz") as arrays:
            assert arrays.files == ["images", "a/b", "é"], arrays.files
            assert arrays["a/b"].tolist() == [0, 1, 2, 3, 4] and arrays["é"] == 0.5 and arrays["é"].shape == ()
            report("Mica -> numpy.load, .npz and .npy", float(abs(arrays["images"] - images).max()))

        # Python's safetensors opens it, names, shapes and all.
        with safetensors.safe_open(folder / "model.safetensors", "np") as file:
            assert "mica.graph" in file.metadata()
        tensors = safetensors.numpy.load_file(folder / "model.safetensors")
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        assert shapes == {
            "conv2d.kernel": (3, 3, 3, 4), "conv2d.bias": (4,), "conv2d_1.kernel": (3, 2, 4, 6), "conv2d_1.bias": (6,),
            "dense.kernel": (54, 7), "dense.bias": (7,), "dense_1.kernel": (7, 5), "dense_1.bias": (5,)}, shapes

        with torch.no_grad():
            model = TorchModel()
            model.from_mica(safetensors.torch.load_file(folder / "model.safetensors"))
            report("Mica -> PyTorch, predictions", float(abs(model(torch.from_numpy(images)).numpy() - expected).max()))

            model = TorchModel()
            safetensors.torch.save_file(model.to_mica(), folder / "torch.safetensors")
            np.save(folder / "torch.npy", model(torch.from_numpy(images)).numpy())
            report("PyTorch -> Mica, predictions", float(mica("read", folder, "torch")))

        model = keras_model()
        for layer in model.layers:
            if layer.weights:
                layer.set_weights([tensors[f"{layer.name}.kernel"], tensors[f"{layer.name}.bias"]])
        report("Mica -> Keras, predictions", float(abs(model.predict(images, verbose=0) - expected).max()))

        model = keras_model()
        weights = {f"{layer.name}.{weight.name}": keras.ops.convert_to_numpy(weight)
                   for layer in model.layers for weight in layer.weights}
        safetensors.numpy.save_file(weights, folder / "keras.safetensors")
        np.save(folder / "keras.npy", model.predict(images, verbose=0))
        report("Keras -> Mica, predictions", float(mica("read", folder, "keras")))


if __name__ == "__main__":
    versions = f"numpy {np.__version__}, safetensors {safetensors.__version__}, torch {torch.__version__}"
    print(f"{versions}, keras {keras.__version__}")
    main(sys.argv[1])
    sys.exit(failed)
