"""Keras's program, on TensorFlow, that trains the MNIST network for an epoch, as examples/mnist does:
mnist_keras.py THREADS DATA."""
import gzip
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy as np
import tensorflow as tf
from keras import layers


def idx(folder, name, offset):
    data = gzip.decompress((pathlib.Path(folder) / f"{name}-ubyte.gz").read_bytes())
    return np.frombuffer(data, "u1", offset=offset)


def dataset(folder, name):
    return idx(folder, f"{name}-images-idx3", 16).reshape(-1, 28, 28, 1), idx(folder, f"{name}-labels-idx1", 8)


def main():
    tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
    tf.config.threading.set_inter_op_parallelism_threads(int(sys.argv[1]))
    images, labels = dataset(sys.argv[2], "train")
    test_images, test_labels = dataset(sys.argv[2], "t10k")
    # Pixels stay bytes until their batch.
    model = keras.Sequential([
        keras.Input((28, 28, 1), dtype="uint8"), layers.Rescaling(1 / 255), layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2), layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(),
        layers.Dense(128, activation="relu"), layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=128, epochs=1, verbose=2)
    print(f"test accuracy {model.evaluate(test_images, test_labels, batch_size=128, verbose=0)[1]:.4f}")


if __name__ == "__main__":
    main()
