"""The golden cases of training: optimizers and schedules by PyTorch, metrics by scikit-learn."""

import numpy as np
import torch

from generate import Family, as_input


# --- optimizers ---


def optim():
    """p0 and q0 are stepped 20 times with the gradients p_gradients[step], q_gradients[step] (q_ alike); p and q hold
    the values after each step, [20, ...]. Formulas: PyTorch's documentation of torch.optim."""
    family = Family("optim")
    steps, shapes = 20, {"p": (3, 4), "q": (5,)}

    def case(name, op, make, args, clip=lambda gradients: gradients):
        rng = family.rng(name)
        inputs = {f"{n}0": as_input(rng.uniform(-1, 1, shape)) for n, shape in shapes.items()}
        inputs |= {f"{n}_gradients": as_input(rng.uniform(-1, 1, (steps, *shape))) for n, shape in shapes.items()}
        parameters = {n: torch.nn.Parameter(inputs[f"{n}0"].clone()) for n in shapes}
        optimizer = make(parameters.values())
        history = {n: [] for n in shapes}
        for step in range(steps):
            gradients = clip([inputs[f"{n}_gradients"][step].clone() for n in shapes])
            for parameter, gradient in zip(parameters.values(), gradients):
                parameter.grad = gradient
            optimizer.step()
            for n, parameter in parameters.items():
                history[n].append(parameter.detach().clone())
        family.store(name, op, args | {"steps": steps}, inputs, {n: torch.stack(h) for n, h in history.items()})

    def adam(name, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
        args = {"learning_rate": lr, "beta1": beta1, "beta2": beta2, "epsilon": eps, "weight_decay": weight_decay}
        case(name, "adam", lambda p: torch.optim.Adam(p, lr, (beta1, beta2), eps, weight_decay), args)

    adam("adam")
    adam("adam_fast", lr=0.1)
    adam("adam_betas", lr=0.01, beta1=0.5, beta2=0.95)
    adam("adam_epsilon", lr=0.01, eps=1e-3)
    adam("adam_weight_decay", lr=0.01, weight_decay=0.1)  # added to the gradient, as L2 regularization is

    def sgd(name, lr=0.01, momentum=0.0, nesterov=False, weight_decay=0.0):
        args = {"learning_rate": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        case(name, "sgd", lambda p: torch.optim.SGD(p, lr, momentum, 0, weight_decay, nesterov), args)

    sgd("sgd")
    sgd("sgd_weight_decay", lr=0.1, weight_decay=0.1)
    sgd("sgd_momentum", momentum=0.9)
    sgd("sgd_nesterov", momentum=0.9, nesterov=True)
    sgd("sgd_all", lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.01)

    def adamw(name, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
        args = {"learning_rate": lr, "beta1": beta1, "beta2": beta2, "epsilon": eps, "weight_decay": weight_decay}
        case(name, "adamw", lambda p: torch.optim.AdamW(p, lr, (beta1, beta2), eps, weight_decay), args)

    adamw("adamw")
    adamw("adamw_fast", lr=0.1, weight_decay=0.5)
    adamw("adamw_betas", lr=0.01, beta1=0.5, beta2=0.95, eps=1e-3)
    adamw("adamw_no_decay", lr=0.01, weight_decay=0.0)

    def rmsprop(name, lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
        args = {"learning_rate": lr, "alpha": alpha, "epsilon": eps, "weight_decay": weight_decay,
                "momentum": momentum, "centered": centered}
        case(name, "rmsprop", lambda p: torch.optim.RMSprop(p, lr, alpha, eps, weight_decay, momentum, centered), args)

    rmsprop("rmsprop")
    rmsprop("rmsprop_alpha", alpha=0.5, eps=1e-3)
    rmsprop("rmsprop_weight_decay", weight_decay=0.1)
    rmsprop("rmsprop_momentum", momentum=0.9)
    rmsprop("rmsprop_centered", alpha=0.9, eps=1e-2, centered=True)
    rmsprop("rmsprop_all", alpha=0.9, eps=1e-2, weight_decay=0.01, momentum=0.5, centered=True)

    # PyTorch's clip_grad_norm_ adds 1e-6 to the norm that it divides by; here it is divided by the norm itself.
    def by_norm(gradients, most):
        norm = torch.sqrt(sum((g * g).sum() for g in gradients))
        return [g * torch.clamp(most / norm, max=1) for g in gradients]

    def by_value(gradients, most):
        return [g.clamp(-most, most) for g in gradients]

    for name, clip, most in (("clip_norm", by_norm, 2.0), ("clip_value", by_value, 0.3)):
        case(f"sgd_{name}", "clipped_sgd", lambda p: torch.optim.SGD(p, 0.1), {name: most}, lambda g: clip(g, most))
        case(f"adam_{name}", "clipped_adam", lambda p: torch.optim.Adam(p, 0.1), {name: most}, lambda g: clip(g, most))
    family.write()


# --- learning rates ---


def schedule():
    """y[i] is the rate of the update that has i before it, as PyTorch's schedulers give it."""
    family = Family("schedule")
    from torch.optim import lr_scheduler as lrs

    def case(name, op, args, decay, iterations=30, warmup=0):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], args["rate"])
        if warmup:
            first = lrs.LinearLR(optimizer, 1 / (warmup + 1), 1, warmup)
            scheduler = lrs.SequentialLR(optimizer, [first, decay(optimizer)], [warmup])
        else:
            scheduler = decay(optimizer)
        rates = []
        for _ in range(iterations):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        family.store(name, op, args | {"warmup": warmup}, {}, {"y": torch.tensor(rates, dtype=torch.float64)})

    for warmup in (0, 1, 6):
        case(f"step_{warmup}", "step_decay", {"rate": 0.1, "steps": 7, "factor": 0.5, "minimum": 0},
             lambda o: lrs.StepLR(o, 7, 0.5), warmup=warmup)
        case(f"exponential_{warmup}", "exponential_decay", {"rate": 0.2, "steps": 1, "factor": 0.9, "minimum": 0},
             lambda o: lrs.ExponentialLR(o, 0.9), warmup=warmup)
        # Keras' ExponentialDecay(0.2, 7, 0.3), by its formula.
        case(f"exponential_slow_{warmup}", "exponential_decay", {"rate": 0.2, "steps": 7, "factor": 0.3, "minimum": 0},
             lambda o: lrs.LambdaLR(o, lambda i: 0.3 ** (i / 7)), warmup=warmup)
        case(f"cosine_{warmup}", "cosine_decay", {"rate": 1e-3, "steps": 20, "factor": 1, "minimum": 1e-5},
             lambda o: lrs.CosineAnnealingLR(o, 20, 1e-5), iterations=21 + warmup, warmup=warmup)
    family.write()


# --- metrics ---


def metrics():
    """What scikit-learn says of predictions and targets."""
    import sklearn.metrics as sk
    family = Family("metrics")

    def store(name, op, args, prediction, target, y):
        family.store(name, op, args, {"prediction": prediction, "target": target}, {"y": torch.as_tensor(np.asarray(y))})

    for n, share in ((1, 1.0), (7, 0.5), (64, 0.1), (150, 0.5)):
        rng = family.rng(f"binary{n}")
        target = (rng.uniform(0, 1, n) < share).astype(int)
        scores = as_input(np.round(np.clip(0.3 * target + rng.uniform(0, 0.8, n), 0, 1), 1))  # many are equal
        for threshold in (0.5, 0.25):
            guess = (scores > threshold).numpy().astype(int)
            for op, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
                store(f"{op}_{n}_{threshold}", op, {"threshold": threshold}, scores, torch.as_tensor(target),
                      function(target, guess, zero_division=0))
        if len(set(target)) == 2:
            store(f"auc_{n}", "auc", {}, scores, torch.as_tensor(target), sk.roc_auc_score(target, scores.numpy()))
    for n, classes, used in ((9, 3, 3), (60, 5, 5), (30, 6, 4), (3, 10, 10)):
        rng = family.rng(f"classes{n}x{classes}")
        target = rng.integers(0, used, n)
        scores = rng.uniform(0, 1, (n, classes))
        scores[:, used:] = 0  # classes that are neither there nor predicted
        scores[np.arange(n), target] += 0.3
        scores = as_input(scores)
        guess = scores.argmax(1).numpy()
        for op, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
            store(f"{op}_{n}x{classes}", op, {"threshold": 0.5}, scores, torch.as_tensor(target),
                  function(target, guess, average="macro", zero_division=0))
        labels = list(range(classes))
        for k in sorted({1, 2, classes - 1}):
            store(f"top_{k}_{n}x{classes}", "top_k_accuracy", {"k": k}, scores, torch.as_tensor(target),
                  sk.top_k_accuracy_score(target, scores.numpy(), k=k, labels=labels))
        store(f"confusion_{n}x{classes}", "confusion_matrix", {"classes": classes}, scores, torch.as_tensor(target),
              sk.confusion_matrix(target, guess, labels=labels))
    family.write()


# --- preprocessing ---


def table_encoder():
    """What scikit-learn makes of a table: columns of numbers (NaN: missing), the last of them through log1p, then one of
    texts, given as codes. y is of the rows to come, fitted on those of training: for each number a standardised one, 0
    where it is missing, and an indicator where training misses any; then the texts, one-hot."""
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    family = Family("table_encoder")
    for n, m, share in ((1, 3, 0.0), (7, 5, 0.3), (200, 50, 0.1)):
        name = f"rows{n}"
        rng = family.rng(name)
        numbers = {}
        for rows, part in ((n, "train"), (m, "test")):
            x = rng.normal(0, 1, (rows, 4)) * [1, 1e4, 1e-3, 1] + [0, 1e5, 0, 0]
            x[:, 2] = 5  # constant in training
            x[:, 3] = np.exp(x[:, 3])
            x[:, 0][rng.uniform(0, 1, rows) < share] = np.nan
            numbers[part] = as_input(x)
        numbers["test"][0, 2] = 7
        train, test = ((torch.cat([x[:, :3], torch.log1p(x[:, 3:].double())], 1)).numpy() for x in numbers.values())
        codes = {"train": rng.integers(0, 4, n), "test": rng.integers(0, 6, m)}
        scaled = StandardScaler().fit(train).transform(test)
        missing = np.isnan(scaled).astype(float)
        parts = []
        for j in range(4):
            parts.append(np.nan_to_num(scaled[:, j:j + 1]))
            if np.isnan(train[:, j]).any():
                parts.append(missing[:, j:j + 1])
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(codes["train"][:, None])
        parts.append(one_hot.transform(codes["test"][:, None]))
        family.store(name, "table_encoder", {}, {
            "train": numbers["train"], "test": numbers["test"],
            "train_texts": torch.as_tensor(codes["train"]), "test_texts": torch.as_tensor(codes["test"])
        }, {"y": torch.as_tensor(np.concatenate(parts, 1))})
    family.write()


def make_all():
    for make in (optim, schedule, metrics, table_encoder):
        make()


if __name__ == "__main__":
    make_all()
