"""A user's Hugging Face causal language model as a problem for the training witness."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.errors import InputError
from rsverify.interop.lora_config import LoraSettings
from rsverify.statistics.streams import stream
from rsverify.training.problem import Problem
from rsverify.training.transformer import next_token_loss


def problem_from_pretrained(
    model: str, *, config: LoraSettings, text: Path, tokens: int = 128, sequences: int = 2, device: str = "cpu", seed: int = 0
) -> Problem:
    """A local folder's or hub name's causal language model in float64, its loss on a batch of the text, and the modules to adapt.

    The loss is taken from the logits here: `labels=` would compute it in float32.

    Raises: InputError where transformers, the model, the text or the modules are missing, each with its cure.
    """
    try:
        import transformers
    except ImportError:
        raise InputError("transformers is not installed; pip install 'rsverify[realmodel]'") from None
    written = _read(text)
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64, attn_implementation="eager")
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"model={model!r} cannot be loaded as a causal language model ({reason}); give its folder, or a hub name"
        ) from None
    loaded = loaded.to(device).eval()
    replace_conv1d(loaded)
    ids = _ids(transformers, model, written, loaded.config.vocab_size)
    need = tokens * sequences
    if len(ids) < need:
        raise InputError(f"text={text.name!r} makes {len(ids)} tokens; one batch needs {need} ({sequences} sequences of {tokens})")
    places = stream(seed, "interop", "batch").integers(0, len(ids) - tokens + 1, size=sequences)
    batch = torch.tensor([ids[place : place + tokens] for place in places], device=device)

    def loss() -> Tensor:
        return next_token_loss(loaded(input_ids=batch, use_cache=False).logits, batch)

    targets = match_targets(loaded, config.target_modules)
    weights = hashlib.sha256()
    for name, parameter in sorted(loaded.state_dict().items()):
        weights.update(name.encode())
        weights.update(parameter.detach().to("cpu", torch.float64).numpy().tobytes())
    hashes = {"checkpoint": weights.hexdigest(), "text": hashlib.sha256(written.encode()).hexdigest()}
    return Problem(f"{type(loaded).__name__}, {len(targets)} adapted linears", loaded, loss, targets, hashes)


def match_targets(model: nn.Module, targets: Sequence[str] | str) -> tuple[str, ...]:
    """Names of the linears that PEFT's `target_modules` mean: endings, a full-match pattern, or "all-linear" (all but the head).

    Raises: InputError for anything that matches nothing, listing the endings that exist.
    """
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    endings = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linears)) or "none"
    if targets == "all-linear":
        return tuple(name for name in linears if model.get_submodule(name) is not head)
    if isinstance(targets, str):
        try:
            found = tuple(name for name in linears if re.fullmatch(targets, name))
        except re.error as error:
            raise InputError(f"target_modules={targets!r} is not a pattern ({error})") from None
        if not found:
            raise InputError(f"target_modules={targets!r} matches no linear; this model's linears end in: {endings}")
        return found
    for target in targets:
        if not any(name == target or name.endswith("." + target) for name in linears):
            raise InputError(f"target_modules: {target!r} matches no linear; this model's linears end in: {endings}")
    return tuple(name for name in linears if any(name == t or name.endswith("." + t) for t in targets))


def replace_conv1d(model: nn.Module) -> None:
    """Put an equal nn.Linear in the place of each of GPT-2's Conv1D, whose weight is stored transposed."""
    from transformers.pytorch_utils import Conv1D

    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            d_in, d_out = module.weight.shape
            linear = nn.Linear(d_in, d_out, device=module.weight.device, dtype=module.weight.dtype)
            with torch.no_grad():
                linear.weight.copy_(module.weight.T)
                linear.bias.copy_(module.bias)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, linear)


def _read(text: Path) -> str:
    try:
        return Path(text).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"text={str(text)!r} cannot be read ({error.strerror}); give a text file") from None


def _ids(transformers: Any, model: str, text: str, vocabulary: int) -> list[int]:
    """Token ids by the model's own tokenizer; bytes where it has none and its vocabulary holds them."""
    try:
        found = transformers.AutoTokenizer.from_pretrained(model)(text)["input_ids"]
    except Exception:  # a folder without tokenizer files fails in many ways, by the kind of model
        found = []
    if found:  # some kinds make an empty tokenizer from nothing, which makes no tokens
        return found
    if vocabulary < 256:
        raise InputError(f"model={model!r} has no tokenizer, and its vocabulary of {vocabulary} is too small for bytes")
    return list(text.encode("utf-8"))
