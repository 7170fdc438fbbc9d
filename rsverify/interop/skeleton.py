"""A Hugging Face causal language model as shapes only: from its config, on the meta device, without weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.errors import InputError
from rsverify.interop.transformers import replace_conv1d

ATTENTIONS = ("flash", "eager")
_LEAN = "rsverify_lean"


@dataclass(frozen=True)
class Skeleton:
    """A model without data, and the loss of a batch of given shape."""

    name: str
    model: nn.Module
    vocabulary: int

    def loss(self, *, sequences: int, length: int) -> Tensor:
        """The next-token loss of a batch, with the logits in float32 as trainers take it."""
        with torch.device("meta"):
            ids = torch.zeros(sequences, length, dtype=torch.long)
            # Given as it is used, four axes: made by the library it would ask for values, which are not there.
            mask = torch.ones(1, 1, length, length, dtype=torch.bool)
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return F.cross_entropy(logits[:, :-1].float().reshape(-1, self.vocabulary), ids[:, 1:].reshape(-1))


def skeleton(model: str, *, dtype: torch.dtype, attention: str = "flash", checkpointing: bool = False) -> Skeleton:
    """The shapes of a model by its folder, config.json or hub name.

    Args: attention is `flash` (scores are never stored: PyTorch's and FlashAttention's fused kernels) or `eager`.
    Raises: InputError where transformers or the config is missing or is of no causal language model, each with its cure.
    """
    try:
        import transformers
    except ImportError:
        raise InputError("transformers is not installed; pip install 'rsverify[realmodel]'") from None
    if attention not in ATTENTIONS:
        raise InputError(f"attention={attention!r}; expected one of {', '.join(ATTENTIONS)}")
    place = Path(model)
    try:
        config: Any = transformers.AutoConfig.from_pretrained(str(place.parent if place.name == "config.json" else model))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"model={model!r} has no config that can be read ({reason}); give a folder with a config.json, or a hub name"
        ) from None
    transformers.AttentionInterface.register(_LEAN, _lean_attention)
    try:
        with torch.device("meta"):
            made: Any = transformers.AutoModelForCausalLM.from_config(
                config, dtype=dtype, attn_implementation="eager" if attention == "eager" else _LEAN
            )
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"model={model!r}: no causal language model can be made from its config ({reason})") from None
    replace_conv1d(made)
    made.train()
    if checkpointing:
        enable = getattr(made, "activation_checkpointing_enable", None) or made.gradient_checkpointing_enable  # the name changes in 6
        enable({"use_reentrant": False})
        made.enable_input_require_grads()
    return Skeleton(f"{type(made).__name__}", made, int(made.get_output_embeddings().weight.shape[0]))


class _Lean(torch.autograd.Function):
    """What a fused attention keeps: its inputs, its output, one float for each query; no scores."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors[:3])


def _lean_attention(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **options: Any) -> tuple[Tensor, None]:
    del module, mask, options
    out: Any = _Lean.apply(q, k, v)
    return out.transpose(1, 2).contiguous(), None
