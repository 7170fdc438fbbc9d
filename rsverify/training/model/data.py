"""The standard problem of the training witness: the pretrained English base on a batch of source code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch

from rsverify.errors import InputError
from rsverify.statistics.streams import stream
from rsverify.training.model.base import base_manifest, load_base
from rsverify.training.model.compact import as_decoder
from rsverify.training.model.linears import find_targets
from rsverify.training.model.problem import Problem
from rsverify.training.model.task import Batch, Task, compact_losses
from rsverify.training.model.text import Corpus, source
from rsverify.training.model.transformer import LINEARS, Transformer, next_token_loss

CHARACTERS = 400_000
"""Source read for fine-tuning: some thousand times a batch, and a second to read."""


@cache
def fine_tuning_text() -> Corpus:
    """sympy's installed source without docstrings and comments, read once per process."""
    return source("sympy", limit=CHARACTERS)


def draw_batch(text: bytes, *, seed: int, tokens: int, sequences: int, step: int = 0) -> torch.Tensor:
    """`sequences` windows of `tokens` bytes at places drawn by the stream of (seed, step).

    Shapes: (sequences, tokens) integers. Raises: InputError where the text is shorter than one batch.
    """
    if tokens < 2 or sequences < 1:
        raise InputError(f"tokens={tokens}, sequences={sequences}; expected at least 2 tokens and 1 sequence")
    if len(text) < tokens * sequences:
        need = tokens * sequences
        raise InputError(
            f"text of {len(text)} bytes is shorter than one batch of {sequences} x {tokens} = {need}; give more text or lower tokens"
        )
    places = stream(seed, "training", "batch", step).integers(0, len(text) - tokens + 1, size=sequences)
    data = np.frombuffer(text, dtype=np.uint8).astype(np.int64)
    return torch.from_numpy(np.stack([data[place : place + tokens] for place in places]))


def fine_tuning_problem(
    *,
    seed: int = 0,
    tokens: int = 128,
    sequences: int = 2,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float64,
    text: bytes | None = None,
) -> Problem:
    """The base on one fixed batch of sympy's source: next-token loss, all seven linears of every block adapted.

    Args: text replaces sympy's source by the caller's bytes.
    Raises: InputError for a text shorter than one batch or a device that is not there; CheckpointError for a wrong base.
    """
    model = load_base(device=device, dtype=dtype)
    corpus = fine_tuning_text() if text is None else Corpus("given", text, b"")
    batch = draw_batch(corpus.train, seed=seed, tokens=tokens, sequences=sequences).to(model.embedding.weight.device)
    return Problem(
        name=f"base on {corpus.name} ({sequences} x {tokens} bytes)",
        model=model,
        loss=lambda: next_token_loss(model(batch), batch),
        targets=find_targets(model, LINEARS),
        hashes={"checkpoint": base_manifest()["sha256"], "text": corpus.sha256},
    )


def transformer_task(
    model: Transformer,
    text: Corpus,
    *,
    tokens: int = 64,
    sequences: int = 1,
    fresh: bool = True,
    targets: tuple[str, ...] = LINEARS,
    hashes: Mapping[str, str] | None = None,
) -> Task:
    """A compact transformer on the bytes of a text: `sequences` windows of `tokens` bytes a step.

    Args: fresh=False keeps the batch of step 0 at every step.
    Raises: InputError for a text shorter than one batch or targets that match nothing.
    """
    device = model.embedding.weight.device
    draw_batch(text.train, seed=0, tokens=tokens, sequences=sequences)  # refuses a short text now

    def batch(step: int, data: int) -> Batch:
        drawn = draw_batch(text.train, seed=data, tokens=tokens, sequences=sequences, step=step if fresh else 0)
        return {"tokens": drawn.to(device)}

    return Task(
        name=f"{sequences} x {tokens} bytes of {text.name}",
        model=model,
        targets=find_targets(model, targets),
        batch=batch,
        losses=compact_losses,
        decoder=as_decoder,
        examples=sequences,
        hashes={"text": text.sha256, **(hashes or {})},
    )


def fine_tuning_task(
    *,
    tokens: int = 64,
    sequences: int = 1,
    fresh: bool = True,
    targets: tuple[str, ...] = LINEARS,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float64,
    text: bytes | None = None,
) -> Task:
    """The package's base on sympy's source (or the caller's bytes), as many configurations are trained on it together.

    Raises: InputError for a text shorter than one batch or a device that is not there; CheckpointError for a wrong base.
    """
    corpus = fine_tuning_text() if text is None else Corpus("given", text, b"")
    return transformer_task(
        load_base(device=device, dtype=dtype), corpus, tokens=tokens, sequences=sequences, fresh=fresh, targets=targets,
        hashes={"checkpoint": base_manifest()["sha256"]},
    )  # fmt: skip
