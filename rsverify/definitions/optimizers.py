"""Optimizers by name: defaults and update formula. Every witness writes its own update; nothing here is run by them.

`g` is the gradient, `w` the factor, `m`, `s` the running moments, `t` the step from 1. Options that were not given take
the library's default in the numeric witnesses; epsilon is 0 in theory unless given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from rsverify.errors import InputError, UnknownName, suggest

COMMON = {"weight_decay": 0.0, "lr_ratio": 1.0, "clip": 0.0}
"""Options of every optimizer: decoupled or coupled decay as the formula says; lr of the up-factors over lr of the others
(LoRA+; which these are, `definitions.rates` says); bound on the global gradient norm, 0 = none."""


@dataclass(frozen=True)
class Optimizer:
    """An update rule with its options.

    Args: `defaults` are the library's; `given` what the user set. `option(name)` is the value in force. `coordinatewise`
        says whether each entry moves by its own gradients alone.
    """

    name: str
    formula: str
    defaults: Mapping[str, float]
    coordinatewise: bool = True
    note: str = ""
    given: Mapping[str, float] = field(default_factory=dict)

    def option(self, name: str) -> float:
        return self.given.get(name, self.defaults[name])

    def theory_option(self, name: str) -> float:
        """As `option`, with epsilon 0 unless it was given."""
        return self.given.get("eps", 0.0) if name == "eps" else self.option(name)

    def with_options(self, **options: float) -> Optimizer:
        """The same update with other options, e.g. eps=1e-3, lr_ratio=16."""
        for key, value in options.items():
            if key not in self.defaults:
                raise InputError(f"optimizer {self.name!r} has no option {key!r}{suggest(key, self.defaults)}")
            if not math.isfinite(value) or value < 0:
                raise InputError(f"optimizer {self.name!r}: {key}={value}; expected a finite number from 0")
            if key == "lr_ratio" and value == 0:
                raise InputError(f"optimizer {self.name!r}: lr_ratio=0 would freeze the up-factors; expected a positive number")
            if key in ("momentum", "beta1", "beta2", "alpha") and not 0 <= value < 1:
                raise InputError(f"optimizer {self.name!r}: {key}={value}; expected 0 <= {key} < 1")
        return Optimizer(self.name, self.formula, self.defaults, self.coordinatewise, self.note, {**self.given, **options})

    @property
    def text(self) -> str:
        """As on the command line: "adamw:eps=0.001,lr_ratio=16"."""
        options = ",".join(f"{key}={_shortest(value)}" for key, value in sorted(self.given.items()))
        return f"{self.name}:{options}" if options else self.name

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text


def _shortest(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return short if float(short := f"{value:g}") == value else repr(float(value))


def _make(name: str, formula: str, *, coordinatewise: bool = True, note: str = "", **defaults: float) -> Optimizer:
    return Optimizer(name, formula, {**COMMON, **defaults}, coordinatewise, note)


@cache
def _all() -> dict[str, Optimizer]:
    adam = "m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g**2; w -= lr (m / (1 - beta1**t)) / (sqrt(s / (1 - beta2**t)) + eps)"
    found = (
        _make("sgd", "w -= lr (g + weight_decay w)"),
        _make("momentum", "m = momentum m + g + weight_decay w; w -= lr m", momentum=0.9),
        _make("normalized-sgd", "w -= lr g / |g|, the norm over all trained factors of the adapter", coordinatewise=False),
        _make("signsgd", "w -= lr sign(g)"),
        _make("lion", "w -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay w); m = beta2 m + (1 - beta2) g", beta1=0.9, beta2=0.99),
        _make("adam", adam + "; g includes weight_decay w", beta1=0.9, beta2=0.999, eps=1e-8),
        _make("adamw", "w -= lr weight_decay w; " + adam, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01),
        _make("rmsprop", "s = alpha s + (1 - alpha) g**2; w -= lr g / (sqrt(s) + eps)", alpha=0.99, eps=1e-8),
        _make("adagrad", "s = s + g**2; w -= lr g / (sqrt(s) + eps)", eps=1e-10),
        _make(
            "adafactor",
            "R, C = running row and column means of g**2 with weight 1 - t**beta2_decay; u = g / max(sqrt(R C / mean(R)), eps1);"
            " w -= max(eps2, rms(w)) min(lr, 1/sqrt(t)) u / max(1, rms(u) / d)",
            coordinatewise=False, beta2_decay=-0.8, eps2=1e-3, d=1.0,
            note="torch.optim.Adafactor: the step is relative to rms(w), floored at eps2",
        ),
        _make(
            "muon", "m = momentum m + g; w -= lr U V', where U S V' = g + momentum m (Nesterov)", coordinatewise=False,
            momentum=0.95, note="plain orthogonalisation of each factor's matrix",
        ),
        _make(
            "muon-torch", "as muon, then times sqrt(max(1, rows / columns))", coordinatewise=False, momentum=0.95,
            weight_decay=0.1, note="torch.optim.Muon: Newton-Schulz iteration and a factor of shape",
        ),
    )  # fmt: skip
    return {optimizer.name: optimizer for optimizer in found}


def optimizers() -> dict[str, Optimizer]:
    """The optimizers by name."""
    return dict(_all())


def as_optimizer(optimizer: Optimizer | str) -> Optimizer:
    """The optimizer itself, or the one that a text such as "adamw:eps=1e-3,lr_ratio=16" says."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    name, _, options = optimizer.strip().partition(":")
    if name not in _all():
        raise UnknownName("optimizer", name, _all())
    given: dict[str, float] = {}
    for pair in filter(None, options.split(",")):
        key, equals, value = pair.partition("=")
        try:
            given[key.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise InputError(f"optimizer={optimizer!r}: option {pair!r} is not name=number; expected e.g. adamw:eps=1e-3,lr_ratio=16")
    return _all()[name].with_options(**given)


def scalar_reference(optimizer: Optimizer, gradients: Sequence[float], *, lr: float, start: float = 0.0) -> list[float]:
    """The value of one scalar factor entry after each step, in plain Python: what tests hold every witness against.

    Raises: InputError for optimizers that look at whole matrices; their references are matrices, in the tests.
    """
    o, w, m, s = optimizer, start, 0.0, 0.0
    path = []
    for t, raw in enumerate(gradients, start=1):
        decay = o.option("weight_decay")
        g = raw + decay * w if o.name in ("sgd", "momentum", "adam", "rmsprop", "adagrad", "signsgd") else raw
        if o.name == "sgd":
            step = g
        elif o.name == "momentum":
            m = o.option("momentum") * m + g
            step = m
        elif o.name == "signsgd":
            step = float((g > 0) - (g < 0))
        elif o.name == "lion":
            mixed = o.option("beta1") * m + (1 - o.option("beta1")) * g
            step = float((mixed > 0) - (mixed < 0)) + decay * w
            m = o.option("beta2") * m + (1 - o.option("beta2")) * g
        elif o.name in ("adam", "adamw"):
            b1, b2 = o.option("beta1"), o.option("beta2")
            m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g * g
            step = (m / (1 - b1**t)) / (math.sqrt(s / (1 - b2**t)) + o.option("eps"))
            step += decay * w if o.name == "adamw" else 0.0
        elif o.name == "rmsprop":
            s = o.option("alpha") * s + (1 - o.option("alpha")) * g * g
            step = g / (math.sqrt(s) + o.option("eps"))
        elif o.name == "adagrad":
            s += g * g
            step = g / (math.sqrt(s) + o.option("eps"))
        else:
            raise InputError(f"optimizer {o.name!r} looks at whole matrices and has no scalar reference")
        w -= lr * step
        path.append(w)
    return path
