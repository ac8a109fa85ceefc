"""ONNX Runtime and OpenVINO: prediction of the MNIST network, as an ONNX model for each size of a batch."""
import worker

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def onnx_model(w, n):
    """The network for n images, [n,1,28,28] to [n,10]."""
    # The dense layer's features come flattened channel by channel, not pixel by pixel.
    features = w["dense.kernel"].reshape(5, 5, 64, 128).transpose(2, 0, 1, 3).reshape(1600, 128)
    weights = {"w1": w["conv2d.kernel"].transpose(3, 2, 0, 1), "b1": w["conv2d.bias"],
               "w2": w["conv2d_1.kernel"].transpose(3, 2, 0, 1), "b2": w["conv2d_1.bias"],
               "w3": features, "b3": w["dense.bias"], "w4": w["dense_1.kernel"], "b4": w["dense_1.bias"]}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"]), helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], **pool),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"]), helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], **pool), helper.make_node("Flatten", ["p2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["d1"]), helper.make_node("Relu", ["d1"], ["r3"]),
        helper.make_node("Gemm", ["r3", "w4", "b4"], ["d2"]), helper.make_node("Softmax", ["d2"], ["y"], axis=-1)]
    graph = helper.make_graph(
        nodes, "mnist", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [n, 1, 28, 28])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [n, 10])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def onnx_runtime(model, x, threads):
    """A function that predicts x once, and how to get what it predicted."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    # Images and probabilities stay where they are.
    y = np.empty((len(x), 10), "float32")
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def run(count):
        for _ in range(count):
            session.run_with_iobinding(binding)
        return x, y  # which the binding does not keep

    return run, lambda: y


def openvino(model, x, threads, hint):
    """Likewise. With the hint of throughput several requests run at once, each of them of x."""
    from openvino import AsyncInferQueue, Core, Tensor

    # f32, as the others; on some processors the default is bf16.
    core = Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"})
    if hint == "LATENCY":
        request = compiled.create_infer_request()
        request.set_input_tensor(Tensor(x, shared_memory=True))
        return worker.repeat(lambda: request.infer()), lambda: request.get_output_tensor().data
    queue = AsyncInferQueue(compiled)

    def run(count):
        for _ in range(count):
            queue.start_async({0: x}, share_inputs=True)
        queue.wait_all()

    return run, lambda: queue[0].get_output_tensor().data


def prepare(workload, mode, threads, w):
    images = w["x"].transpose(0, 3, 1, 2)
    cases, results, expected = {}, [], []
    for n in (128, 1024) if mode == "throughput" else (1, 128, 1024):  # what one image takes is latency
        x, model = np.ascontiguousarray(images[:n]), onnx_model(w, n)
        if mode == "onnxruntime":
            run, result = onnx_runtime(model, x, threads)
        else:
            run, result = openvino(model, x, threads, mode.upper())
        run(8)
        cases[str(n)] = run
        results.append(result())
        expected.append(w["expected"][:n])
    return cases, {"difference": worker.largest_difference(results, expected)}


if __name__ == "__main__":
    worker.serve(prepare)
