"""The standard problem of the training witness: the pretrained English base on a batch of source code."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from rsverify.errors import InputError
from rsverify.statistics.streams import stream
from rsverify.training.attach import find_targets
from rsverify.training.base import base_manifest, load_base
from rsverify.training.problem import Problem
from rsverify.training.text import Corpus, source
from rsverify.training.transformer import LINEARS, next_token_loss

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
