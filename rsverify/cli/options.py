"""What several verbs share: their options, and where results go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rsverify.errors import InputError
from rsverify.files.writing import write_whole


def whole(type_: Any, tokens: Any) -> int:
    """A whole number as typed: 1.5 is refused where it would be rounded.

    Raises: ValueError for anything else; the command line names the option.
    """
    text = tokens[0].value
    try:
        return int(text, 10)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


Whole = Annotated[int, Parameter(converter=whole)]
Name = Annotated[
    str,
    Parameter(help="An adapter's name (lora, dora, vera, ...), package.module:object, peft:METHOD?key=value&..., adapter_config.json."),
]
Seed = Annotated[Whole, Parameter(name="--seed", allow_leading_hyphen=True, help="Seed of every random draw.")]
Json = Annotated[Path | None, Parameter(name="--json", help="Write the result to this file as JSON.")]
Alpha = Annotated[float, Parameter(name="--alpha", help="LoRA alpha.")]
Ranks = Annotated[str | None, Parameter(name="--ranks", allow_leading_hyphen=True, help="4,8,16 or 4:65536 (powers of two) or 2**40.")]
OneRule = Annotated[
    str | None,
    Parameter(
        name="--rule", allow_leading_hyphen=True,
        help="Scaling rule in r and alpha, or a name: lora, rslora [alpha/sqrt(r), or what the target's settings say].",
    ),
]  # fmt: skip
OneOptimizer = Annotated[str, Parameter(name="--optimizer", help="Optimizer, e.g. sgd or adamw:eps=1e-3,lr_ratio=16.")]
Quantity = Annotated[
    str, Parameter(name="--quantity", help="output, update, gradient:FACTOR, gradient_norm, input_gradient, loss_decrease.")
]
Statistic = Annotated[str, Parameter(name="--statistic", help="rms, frobenius, projection or log.")]
Probe = Annotated[str, Parameter(name="--probe", help="aligned, orthogonal or cosine:C.")]
Steps = Annotated[Whole, Parameter(name="--steps", help="Optimizer steps taken; 0 = at init.")]
Init = Annotated[
    tuple[str, ...], Parameter(name="--init", help="Another law for a factor, e.g. A=gaussian(std=1/sqrt(i)); may be given several times.")
]
Regime = Annotated[str, Parameter(name="--regime", help="rank (r to infinity) or width (width first).")]


Executor = Annotated[
    str | None,
    Parameter(name="--executor", help="Where cells run: serial, processes or dask [processes; dask with --scheduler]."),
]
Scheduler = Annotated[str | None, Parameter(name="--scheduler", help="Address of a dask scheduler, e.g. tcp://head:8786.")]


def where(executor: str | None, scheduler: str | None) -> str | None:
    """The kind of executor that two options name; None where neither is given.

    Raises: InputError for a kind that is not known, or a scheduler beside another kind than dask.
    """
    from rsverify.sweep.executors import refuse_executor

    kind = executor if executor is not None else "dask" if scheduler is not None else None
    if kind is not None:
        refuse_executor(kind, scheduler)
    return kind


def chosen(adapter: str, init: tuple[str, ...]) -> Any:
    """The target of that name, its declaration under other laws of init where some are given."""
    from dataclasses import replace

    from rsverify.definitions.lawtext import parse_init
    from rsverify.definitions.targets import as_target

    target = as_target(adapter)
    if not init:
        return target
    laws = [parse_init(text) for text in init]
    if len(dict(laws)) < len(laws):
        raise InputError(f"init={list(init)}: a factor has two laws; give each one")
    # Other laws are another adapter than the one a library builds.
    return replace(target, declared=target.derivable.with_init(**dict(laws)), build=None, subject=None)


DEFAULT_RULE = "alpha/sqrt(r)"
"""The rule of a declaration where none is asked for: the source article's."""


def ruled(target: Any, rule: str | None) -> Any:
    """The rule asked for, else the one that a module or a library's settings bring, else the source article's."""
    if rule is not None:
        return rule
    return target.rule if target.build is not None else DEFAULT_RULE


def scaled(target: Any, alpha: float | None) -> float:
    """The alpha asked for, else that of the target's settings, else the package's."""
    from rsverify.definitions.rules import ALPHA

    return alpha if alpha is not None else ALPHA if target.alpha is None else target.alpha


def refuse_unwritable(path: Path | None, name: str = "json") -> None:
    """Refuse a result file whose folder is not there, before any computation."""
    if path is not None and not path.resolve().parent.is_dir():
        raise InputError(f"{name}={str(path)!r} cannot be written: its folder does not exist")


def write_json(data: Any, path: Path | None) -> None:
    """Write a result to the file asked for, if one was."""
    if path is None:
        return
    write_whole(path, json.dumps(data, indent=1, allow_nan=False) + "\n", name="json")


def write_text(text: str, path: Path, name: str) -> None:
    """Write a page or a text to the file that the option of that name gave."""
    write_whole(path, text, name=name)


def as_called(*own: str) -> str:
    """The command as it was called, without the options that say where its results went: those are the caller's own.

    An absolute path is given by its last part: a page that is forwarded names no user's folders.
    """
    import shlex

    words = list(sys.argv[1:])
    for option in own:
        while option in words:
            place = words.index(option)
            del words[place : place + 2]
        words = [word for word in words if not word.startswith(f"{option}=")]
    return shlex.join(["rsverify", *(Path(word).name if word.startswith("/") else word for word in words)])


def complain(message: str) -> None:
    """A line on stderr."""
    print(message, file=sys.stderr)
