"""A frozen model, its batches, and a loss for every copy of a batch: what many configurations are trained on together.

The configurations are folded into the batch axis: the model runs once on `copies` batches laid one after another, its own
forward unchanged, and its target linears alone know that the rows belong to different configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.errors import InputError
from rsverify.training.model.decoder import Decoder
from rsverify.training.model.linears import find_targets
from rsverify.training.model.problem import Problem

Batch = Mapping[str, Any]
"""Named inputs of a model; tensors whose first axis counts the examples are folded, others are passed on."""

Losses = Callable[[nn.Module, Batch, int], Tensor]
"""From (model, folded batch, copies) to the loss of every copy. Shapes: (copies,)."""


@dataclass(frozen=True)
class Task:
    """What many configurations are trained on.

    Args:
        model: frozen while training and as before afterwards. targets: names of the linears that may be adapted.
        batch: from (step, data) to the batch of that step in the stream named `data`.
        losses: the loss of each copy, from the model run on the folded batch.
        examples: size of the axis that is folded, in every batch.
        foldable: False where the model or its loss can only see one configuration at a time.
        hashes: names of checkpoint and text, for provenance.
        decoder: from (task, dtype) to the model as the native kernels take it, None where they do not compute what the task does.
    """

    name: str
    model: nn.Module
    targets: tuple[str, ...]
    batch: Callable[[int, int], Batch]
    losses: Losses
    examples: int
    foldable: bool = True
    hashes: Mapping[str, str] = field(default_factory=dict)
    decoder: Callable[[Task, torch.dtype], Decoder | None] | None = None

    def examples_of(self, batch: Batch) -> int:
        """The size of the folded axis in a batch of the task's kind that may hold another number of examples than the task's own."""
        own = any(isinstance(value, Tensor) and value.ndim and value.shape[0] == self.examples for value in batch.values())
        return self.examples if own else examples_in(batch)

    def problem(self, *, step: int = 0, data: int = 0) -> Problem:
        """The same model with one fixed batch, as the closed form of the first step takes it."""
        fixed = self.batch(step, data)
        return Problem(self.name, self.model, lambda: self.losses(self.model, fixed, 1)[0], self.targets, self.hashes)


def fold(batches: Sequence[Batch], examples: int) -> Batch:
    """Batches laid one after another along the example axis; what has no such axis is taken from the first."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    found: dict[str, Any] = {}
    for name, value in first.items():
        if not (isinstance(value, Tensor) and value.ndim and value.shape[0] == examples):
            found[name] = value
        elif all(batch is first for batch in batches):
            found[name] = value.expand(len(batches), *value.shape).reshape(-1, *value.shape[1:])
        else:
            found[name] = torch.cat([batch[name] for batch in batches])
    return found


def next_token_losses(logits: Tensor, tokens: Tensor, copies: int) -> Tensor:
    """Mean cross-entropy of each next token, for every copy, in the dtype of the logits.

    Shapes: logits (copies * examples, T, vocabulary), tokens (copies * examples, T); result (copies,).
    """
    each = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return each.view(copies, -1).mean(1)


def compact_losses(model: nn.Module, batch: Batch, copies: int) -> Tensor:
    """The loss of every copy of a batch of tokens under the compact transformer."""
    return next_token_losses(model(batch["tokens"]), batch["tokens"], copies)


def module_task(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    targets: Sequence[str],
    loss: Callable[[Any, Batch], Tensor] | None = None,
    name: str | None = None,
) -> Task:
    """Any module on given batches, gone through in turn: `loss(outputs, batch)` is a scalar, by default the outputs' own `.loss`.

    With a `loss` of outputs the configurations are folded and `loss` is called on the part of each; a loss made inside the
    model's forward cannot be told apart between configurations, so these then run one after another.

    Raises: InputError where a target matches nothing, there is no batch, or the forward returns no loss and none was given.
    """
    if not batches:
        raise InputError("batches=[]; expected at least one batch, a mapping from argument names to tensors")
    found = find_targets(model, targets)
    examples = examples_in(batches[0])

    def losses(net: nn.Module, batch: Batch, copies: int) -> Tensor:
        outputs = net(**batch)
        if loss is None:
            return _own_loss(net, outputs).reshape(1)
        if copies == 1:
            return _scalar(loss(outputs, batch)).reshape(1)
        parts = [_part(outputs, c, copies) for c in range(copies)]
        return torch.stack([_scalar(loss(part, _part(batch, c, copies))) for c, part in enumerate(parts)])

    return Task(
        name or type(model).__name__,
        model,
        found,
        lambda step, data: batches[step % len(batches)],
        losses,
        examples,
        foldable=loss is not None,
    )


def examples_in(batch: Batch) -> int:
    """How many examples a batch holds: the leading size of its first tensor."""
    sizes = {name: value.shape[0] for name, value in batch.items() if isinstance(value, Tensor) and value.ndim}
    if not sizes:
        raise InputError(f"batch={list(batch)} holds no tensor with an example axis; expected e.g. {{'input_ids': (examples, tokens)}}")
    return next(iter(sizes.values()))


def _scalar(found: Any) -> Tensor:
    if not (isinstance(found, Tensor) and found.numel() == 1):
        shown = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"loss(outputs, batch) returned {shown}; expected a scalar tensor, e.g. the mean over the batch")
    return found.reshape(())


def _own_loss(model: nn.Module, outputs: Any) -> Tensor:
    found = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if found is None and isinstance(outputs, Tensor) and outputs.ndim == 0:
        found = outputs
    if not (isinstance(found, Tensor) and found.numel() == 1):
        shown = f"a tensor of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(
            f"the forward of {type(model).__name__} returns no loss but {shown}; pass loss=, a function of (outputs, batch),"
            " or put what the model makes its loss from (labels=...) into the batches"
        )
    return found


def _part(value: Any, copy: int, copies: int) -> Any:
    """The part of one copy: tensors cut along the first axis, inside mappings and sequences too."""
    if isinstance(value, Tensor):
        if not value.ndim or value.shape[0] % copies:
            return value
        size = value.shape[0] // copies
        return value[copy * size : (copy + 1) * size]
    if isinstance(value, Mapping):
        return (
            {key: _part(inner, copy, copies) for key, inner in value.items()} if type(value) is dict else _model_output(value, copy, copies)
        )
    if isinstance(value, tuple | list):
        return type(value)(_part(inner, copy, copies) for inner in value)
    return value


def _model_output(value: Mapping[str, Any], copy: int, copies: int) -> Any:
    """An ordered mapping with attributes (Hugging Face's ModelOutput) stays one."""
    return type(value)(**{key: _part(inner, copy, copies) for key, inner in value.items()})
