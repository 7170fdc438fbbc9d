"""The optimizers' updates on batches of draws, written for this witness alone.

Gradients are used up: an update may write into them.

A gradient or factor that is None is identically zero. Every draw is a run of its own: norms are per draw.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import InputError

Array = np.ndarray
State = dict[tuple[str, str], "Array | float"]
"""Running moments by (factor, moment); absent means zero."""

COUPLED = frozenset({"sgd", "momentum", "signsgd", "adam", "rmsprop", "adagrad"})
DECOUPLED = frozenset({"lion", "adamw", "adafactor", "muon", "muon-torch"})


def apply_step(
    optimizer: Optimizer,
    weights: Mapping[str, Array | None],
    gradients: Mapping[str, Array | None],
    state: State,
    *,
    t: int,
    lr: float,
    ups: Collection[str],
) -> dict[str, Array | None]:
    """The factors after step t (from 1); `state` is moved on. `ups` are the factors whose learning rate is lr times `lr_ratio`.

    Shapes: factors and gradients (draws, *axes). Raises: InputError for an option that the update does not have.
    """
    decay = optimizer.option("weight_decay")
    if decay and optimizer.name not in COUPLED | DECOUPLED:
        raise InputError(f"optimizer {optimizer.text!r}: {optimizer.name} has no weight decay here")
    if optimizer.option("clip"):
        gradients = _scaled(gradients, lambda norm: np.minimum(1.0, _ratio(np.full_like(norm, optimizer.option("clip")), norm)))
    if optimizer.name == "normalized-sgd":
        gradients = _scaled(gradients, lambda norm: _ratio(np.ones_like(norm), norm))
    after: dict[str, Array | None] = {}
    for name, w in weights.items():
        g = gradients[name]
        rate = lr * (optimizer.option("lr_ratio") if name in ups else 1.0)
        if decay and optimizer.name in COUPLED and w is not None:
            g = decay * w if g is None else g + decay * w
        kept = (1.0 - rate * decay) * w if decay and optimizer.name in DECOUPLED and w is not None else w
        if g is None and (name, "m") not in state and (name, "s") not in state:
            after[name] = kept
            continue
        step = _UPDATES[optimizer.name](optimizer, g, w, state, name, t, rate)
        # The step is the update's own array: writing into it saves a pass over memory at large ranks.
        after[name] = np.negative(step, out=step) if kept is None else np.subtract(kept, step, out=step)
    return after


def _scaled(gradients: Mapping[str, Array | None], factor: Callable[[Array], Array]) -> dict[str, Array | None]:
    squares = [(g * g).reshape(len(g), -1).sum(axis=1) for g in gradients.values() if g is not None]
    if not squares:
        return dict(gradients)
    scale = factor(np.sqrt(np.sum(squares, axis=0)))
    return {name: None if g is None else g * _along(scale, g) for name, g in gradients.items()}


def _along(per_draw: Array, like: Array) -> Array:
    return per_draw.reshape(len(per_draw), *[1] * (like.ndim - 1))


def _ratio(top: Array | float, bottom: Array) -> Array:
    """top / bottom, 0 where both are 0; a bound over a zero norm does not bind."""
    top = np.broadcast_to(top, np.shape(bottom))
    return np.divide(top, bottom, out=np.zeros(np.shape(bottom)), where=bottom != 0)


def _sgd(o: Optimizer, g: Array | None, w: Array | None, state: State, name: str, t: int, lr: float) -> Array:
    assert g is not None  # no moments: a zero gradient moves nothing and is not handed on
    return np.multiply(g, lr, out=g)


def _momentum(o: Optimizer, g: Array | None, w: Array | None, state: State, name: str, t: int, lr: float) -> Array:
    m = state[name, "m"] = o.option("momentum") * state.get((name, "m"), 0.0) + _some(g)
    return lr * m


def _signsgd(o: Optimizer, g: Array | None, w: Array | None, state: State, name: str, t: int, lr: float) -> Array:
    return lr * np.sign(_some(g))


def _lion(o: Optimizer, g: Array | None, w: Array | None, state: State, name: str, t: int, lr: float) -> Array:
    old, g, b1, b2 = state.get((name, "m"), 0.0), _some(g), o.option("beta1"), o.option("beta2")
    state[name, "m"] = b2 * old + (1 - b2) * g
    return lr * np.sign(b1 * old + (1 - b1) * g)


def _adam(o: Optimizer, g: Array | None, w: Array | None, state: State, name: str, t: int, lr: float) -> Array:
    g, b1, b2, eps = _some(g), o.option("beta1"), o.option("beta2"), o.option("eps")
    m, s = np.asarray((1 - b1) * g), np.square(g, out=g)
    s *= 1 - b2
    if t > 1:
        m, s = b1 * state.get((name, "m"), 0.0) + m, b2 * state.get((name, "s"), 0.0) + s
    state[name, "m"], state[name, "s"] = m, s
    root = np.asarray(s / (1 - b2**t))
    np.sqrt(root, out=root)
    root += eps
    step = np.divide(m, root, out=root) if eps else _ratio(m, root)
    step *= lr / (1 - b1**t)
    return step


def _rmsprop(o: Optimizer, g: Array | None, w: Array | None, state: State, name: str, t: int, lr: float) -> Array:
    g, a = _some(g), o.option("alpha")
    s = state[name, "s"] = a * state.get((name, "s"), 0.0) + (1 - a) * np.square(g)
    return lr * _ratio(g, np.sqrt(s) + o.option("eps"))


def _adagrad(o: Optimizer, g: Array | None, w: Array | None, state: State, name: str, t: int, lr: float) -> Array:
    g = _some(g)
    s = state[name, "s"] = state.get((name, "s"), 0.0) + np.square(g)
    return lr * _ratio(g, np.sqrt(s) + o.option("eps"))


def _adafactor(o: Optimizer, g: Array | None, w: Array | None, state: State, name: str, t: int, lr: float) -> Array:
    g = np.asarray(_some(g))
    if g.ndim not in (2, 3):
        raise InputError(f"optimizer 'adafactor': factor {name} has {g.ndim - 1} axes; rows and columns are defined for one or two")
    new, square = t ** o.option("beta2_decay"), np.square(g)
    if g.ndim == 3:
        rows = state[name, "s"] = _mixed(state.get((name, "s"), 0.0), square.mean(axis=2, keepdims=True), new)
        columns = state[name, "c"] = _mixed(state.get((name, "c"), 0.0), square.mean(axis=1, keepdims=True), new)
        spread = _ratio(rows * columns, np.broadcast_to(rows.mean(axis=1, keepdims=True), g.shape))
    else:
        spread = state[name, "s"] = _mixed(state.get((name, "s"), 0.0), square, new)
    tiny = float(np.finfo(g.dtype).eps)  # torch's eps1 where none is given
    u = g / np.maximum(np.sqrt(spread), tiny)
    size = np.zeros(len(g)) if w is None else np.sqrt(np.square(w).reshape(len(w), -1).mean(axis=1))
    much = np.sqrt(np.square(u).reshape(len(u), -1).mean(axis=1)) / o.option("d")
    scale = np.maximum(o.option("eps2"), size) * min(lr, t**-0.5) / np.maximum(1.0, much)
    return u * _along(scale, u)


def _muon(o: Optimizer, g: Array | None, w: Array | None, state: State, name: str, t: int, lr: float) -> Array:
    g = np.asarray(_some(g))
    if g.ndim != 3:
        raise InputError(f"optimizer {o.name!r}: factor {name} has {g.ndim - 1} axes; only a matrix can be orthogonalised")
    m = state[name, "m"] = o.option("momentum") * state.get((name, "m"), 0.0) + g
    polar = _polar(g + o.option("momentum") * m)
    shape = np.sqrt(max(1.0, g.shape[1] / g.shape[2])) if o.name == "muon-torch" else 1.0
    return (lr * shape) * polar


def _polar(matrix: Array) -> Array:
    """U V' of the nonzero singular values, through the Gram matrix of the shorter side."""
    tall = matrix if matrix.shape[1] >= matrix.shape[2] else np.swapaxes(matrix, 1, 2)
    values, vectors = np.linalg.eigh(np.swapaxes(tall, 1, 2) @ tall)
    # The Gram matrix squares the condition: below max * eps * size an eigenvalue is rounding.
    floor = values[:, -1:] * np.finfo(np.float64).eps * max(matrix.shape[1:])
    inverse = np.where(values > floor, 1 / np.sqrt(np.where(values > floor, values, 1.0)), 0.0)
    root = (vectors * inverse[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    found = tall @ root
    return found if tall is matrix else np.swapaxes(found, 1, 2)


def _some(g: Array | None) -> Array:
    return np.zeros(()) if g is None else g  # a scalar zero broadcasts


def _mixed(old: Array | float, new: Array, weight: float) -> Array:
    return (1 - weight) * old + weight * new


_UPDATES: dict[str, Callable[[Optimizer, Array | None, Array | None, State, str, int, float], Array]] = {
    "sgd": _sgd, "normalized-sgd": _sgd, "momentum": _momentum, "signsgd": _signsgd, "lion": _lion, "adam": _adam,
    "adamw": _adam, "rmsprop": _rmsprop, "adagrad": _adagrad, "adafactor": _adafactor, "muon": _muon, "muon-torch": _muon,
}  # fmt: skip
