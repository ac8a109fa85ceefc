"""Keras on TensorFlow and on JAX: training steps. The mode names the backend and how a step runs."""
import os
import sys

BACKEND = "jax" if sys.argv[2].startswith("jax") else "tensorflow"
os.environ["KERAS_BACKEND"] = BACKEND

import worker

import keras
import numpy as np
from keras import layers


class Position(layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, x):
        return x + self.table


def encoder(x, name):
    """Pre-norm; the parts are called by Mica's names."""
    attention = layers.MultiHeadAttention(4, 32, name=f"{name}.attention")
    h = layers.LayerNormalization(epsilon=1e-5, name=f"{name}.attention_residual.norm")(x)
    x = x + attention(h, h)
    h = layers.LayerNormalization(epsilon=1e-5, name=f"{name}.feed_forward_residual.norm")(x)
    h = layers.Dense(512, activation="relu", name=f"{name}.feed_forward.inner")(h)
    return x + layers.Dense(128, name=f"{name}.feed_forward.outer")(h)


def attention():
    x = inputs = keras.Input((128,), dtype="int64")
    x = Position(name="position_embedding")(layers.Embedding(5000, 128, name="embedding")(x))
    x = encoder(encoder(x, "transformer_encoder_layer"), "transformer_encoder_layer_1")
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-5, name="layer_norm")(x))
    return keras.Model(inputs, layers.Dense(4, name="dense")(x))


def characters(layer, name, mode):
    return keras.Sequential([
        keras.Input((64,), dtype="int64"), layers.Embedding(96, 128, name="embedding"),
        layer(256, return_sequences=True, unroll="unrolled" in mode, name=name), layers.Dense(96, name="dense")])


def cnn():
    return keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu", name="conv2d"), layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu", name="conv2d_1"), layers.MaxPooling2D(2), layers.Flatten(),
        layers.Dense(128, activation="relu", name="dense"), layers.Dense(10, name="dense_1")])


def mlp():
    return keras.Sequential([
        keras.Input((64,)), layers.Dense(256, activation="relu", name="dense"),
        layers.Dense(256, activation="relu", name="dense_1"), layers.Dense(1, name="dense_2")])


# From a batch to logits, classes last.
NETWORKS = {"cnn": lambda mode: cnn(), "mlp": lambda mode: mlp(), "attention": lambda mode: attention(),
            "rnn": lambda mode: characters(layers.SimpleRNN, "rnn", mode),
            "lstm": lambda mode: characters(layers.LSTM, "lstm", mode)}


def set_weights(model, w):
    """Mica's and Keras's layouts are the same, but for attention's, which Keras splits by heads."""
    for layer in model.layers:
        values = [value for name, value in w.items() if name.rsplit(".", 1)[0] == layer.name]
        if layer.name.endswith(".attention"):
            values = []
            for i in range(3):  # queries, keys, values
                part = slice(i * 128, (i + 1) * 128)
                values += [w[f"{layer.name}.qkv.kernel"][:, part].reshape(128, 4, 32),
                           w[f"{layer.name}.qkv.bias"][part].reshape(4, 32)]
            values += [w[f"{layer.name}.output.kernel"].reshape(4, 32, 128), w[f"{layer.name}.output.bias"]]
        if layer.weights:
            layer.set_weights(values)


def adam():
    # Keras adds epsilon before it corrects the moments' bias, where it weighs 7 to 32 times as much in the first 20
    # steps. The others have 1e-8.
    return keras.optimizers.Adam(epsilon=1e-9)


def on_tensorflow(model, loss, x, y, mode):
    import tensorflow as tf

    jit = "XLA" in mode
    if "train_on_batch" in mode:
        model.compile(adam(), loss, jit_compile=jit)
        return lambda: model.train_on_batch(x, y)
    optimizer = adam()
    optimizer.build(model.trainable_variables)
    x, y = tf.constant(x), tf.constant(y)

    @tf.function(jit_compile=jit)
    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        # An embedding's gradient comes as the rows of a batch's tokens, of which Keras's Adam makes another training.
        optimizer.apply([tf.convert_to_tensor(g) for g in gradients], model.trainable_variables)
        return value

    return lambda: step(x, y)


def on_jax(model, loss, x, y):
    import jax

    optimizer = adam()
    optimizer.build(model.trainable_variables)
    x, y = jax.device_put(x), jax.device_put(y)

    def loss_of(trainable, fixed, x, y):
        logits, fixed = model.stateless_call(trainable, fixed, x, training=True)
        return loss(y, logits), fixed

    def update(state, x, y):
        trainable, fixed, moments = state
        (value, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, fixed, x, y)
        trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
        return (trainable, fixed, moments), value

    update = jax.jit(update, donate_argnums=0)
    state = [[v.value for v in variables] for variables in
             (model.trainable_variables, model.non_trainable_variables, optimizer.variables)]

    def step():
        nonlocal state
        state, value = update(state, x, y)
        return value

    return step


def trainer(workload, mode, w, x, y):
    model = NETWORKS[workload](mode)
    if w is not None:
        set_weights(model, w)
    if workload == "mlp":
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return on_jax(model, loss, x, y) if BACKEND == "jax" else on_tensorflow(model, loss, x, y, mode)


def set_threads(threads):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    # JAX has no such setting: it takes as many as the processors that compare.py gives to every worker.


def prepare(workload, mode, threads, w):
    set_threads(threads)
    x, y = w["x"], w["y"]
    if workload == "cnn":
        y = y.argmax(-1)
    return worker.training_case(trainer(workload, mode, w, x, y))


def first_step(workload, mode, threads):
    set_threads(threads)
    random = np.random.default_rng(0)
    return trainer(workload, mode, None, random.random((128, 28, 28, 1), "float32"), random.integers(10, size=128))()


if __name__ == "__main__":
    worker.serve(prepare, first_step)
