"""Hugging Face models as problems and tasks for the training witness: from a folder, a hub name, or a config alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.errors import InputError
from rsverify.files.reading import TEXT_LIMIT, read_bytes
from rsverify.interop.lora_config import LoraSettings
from rsverify.interop.placement import Placement, linears_alone, place
from rsverify.statistics.streams import stream
from rsverify.training.model.device import as_device
from rsverify.training.model.linears import find_targets
from rsverify.training.model.problem import Problem
from rsverify.training.model.task import Batch, Task, next_token_losses
from rsverify.training.model.transformer import next_token_loss


def problem_from_pretrained(
    model: str, *, config: LoraSettings, text: Path, tokens: int = 128, sequences: int = 2, device: str = "cpu", seed: int = 0
) -> Problem:
    """A local folder's or hub name's causal language model in float64, its loss on a batch of the text, and the modules to adapt.

    The loss is taken from the logits here: `labels=` would compute it in float32.

    Raises: InputError where transformers, the model, the text or the modules are missing, each with its cure.
    """
    transformers = _library()
    written = _read(text)
    loaded = _causal(transformers, model, dtype=torch.float64, attention="eager")
    placement = place(loaded, config)
    targets = linears_alone(placement)
    loaded = loaded.to(device)
    replace_conv1d(loaded)
    ids = _ids(transformers, model, written, loaded.config.vocab_size)
    need = tokens * sequences
    if len(ids) < need:
        raise InputError(f"text={text.name!r} makes {len(ids)} tokens; one batch needs {need} ({sequences} sequences of {tokens})")
    places = stream(seed, "interop", "batch").integers(0, len(ids) - tokens + 1, size=sequences)
    batch = torch.tensor([ids[place : place + tokens] for place in places], device=device)

    def loss() -> Tensor:
        return next_token_loss(loaded(input_ids=batch, use_cache=False).logits, batch)

    hashes = {"checkpoint": weights_hash(loaded), "text": hashlib.sha256(written.encode()).hexdigest()}
    name = f"{type(loaded).__name__}, {len(targets)} adapted linears"
    return Problem(name, loaded, loss, targets, hashes, notes=(*_adaptation(placement), *config.notes))


def _adaptation(placement: Placement) -> Iterator[str]:
    """What is adapted and what would be trained beside it, in sentences."""
    yield f"{placement.summary}; {placement.parameters:,} parameters at the config's own rank."
    if placement.beside:
        names = ", ".join(name for name, _ in placement.beside[:3]) + (", ..." if len(placement.beside) > 3 else "")
        total = sum(size for _, size in placement.beside)
        yield f"Beside the adapters the config trains {total:,} parameters ({names}); no row is about them, they stay as they are here."


def task_from_pretrained(
    model: str,
    *,
    text: Path,
    targets: Sequence[str] | str = "all-linear",
    tokens: int = 64,
    sequences: int = 1,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Task:
    """A local folder's or hub name's causal language model, as many configurations are trained on it together, on windows of a text.

    Raises: InputError where transformers, the model, the text or the modules are missing, each with its cure.
    """
    transformers = _library()
    written = _read(text)
    loaded = _causal(transformers, model, dtype=dtype, attention="sdpa").to(as_device(device))
    ids = _ids(transformers, model, written, loaded.config.vocab_size)
    hashes = {"checkpoint": weights_hash(loaded), "text": hashlib.sha256(written.encode()).hexdigest()}
    return causal_task(loaded, ids, targets=targets, tokens=tokens, sequences=sequences, hashes=hashes)


def task_from_config(
    config: Any, *, text: bytes, targets: Sequence[str] | str = "all-linear", tokens: int = 64, sequences: int = 1, seed: int = 0,
    device: str = "cpu", dtype: torch.dtype = torch.float32,
) -> Task:  # fmt: skip
    """A causal language model of a config with fresh weights, on the bytes of a text: no checkpoint is needed.

    Raises: InputError where transformers is missing, the vocabulary does not hold bytes, or the text is too short.
    """
    transformers = _library()
    if config.vocab_size < 256:
        raise InputError(f"vocab_size={config.vocab_size} is too small for bytes; expected at least 256")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval().to(as_device(device))
    return causal_task(
        model, list(text), targets=targets, tokens=tokens, sequences=sequences, hashes={"text": hashlib.sha256(text).hexdigest()}
    )


def causal_task(
    model: Any,
    ids: Sequence[int],
    *,
    targets: Sequence[str] | str = "all-linear",
    tokens: int = 64,
    sequences: int = 1,
    hashes: Mapping[str, str] | None = None,
) -> Task:
    """A causal language model on windows of token ids, at places drawn for each step and data stream.

    GPT-2's Conv1D are replaced by equal linears, in place. Targets are patterns as of `find_targets`, or one text as PEFT reads it.
    Raises: InputError for too few ids or targets that match nothing.
    """
    replace_conv1d(model)
    need = tokens * sequences
    if tokens < 2 or sequences < 1 or len(ids) < need:
        raise InputError(
            f"{len(ids)} tokens of text; one batch needs {need} ({sequences} sequences of {tokens}, at least 2): give more text"
        )
    data = torch.as_tensor(ids, dtype=torch.int64)
    device = next(model.parameters()).device

    def batch(step: int, stream_of: int) -> Batch:
        places = stream(stream_of, "interop", "batch", step).integers(0, len(data) - tokens + 1, size=sequences)
        return {"input_ids": torch.stack([data[place : place + tokens] for place in places]).to(device)}

    def losses(net: nn.Module, batch: Batch, copies: int) -> Tensor:
        return next_token_losses(net(input_ids=batch["input_ids"], use_cache=False).logits, batch["input_ids"], copies)

    found = match_targets(model, targets) if isinstance(targets, str) else find_targets(model, targets)
    name = f"{type(model).__name__} ({sequences} x {tokens} tokens)"
    return Task(name, model, found, batch, losses, sequences, hashes=dict(hashes or {}))


def _library() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError("transformers is not installed; pip install 'rsverify[realmodel]'") from None
    return transformers


def _causal(transformers: Any, model: str, *, dtype: torch.dtype, attention: str) -> Any:
    """The model with the weights of its checkpoint, all of them, and seen to predict a token from those before it."""
    chosen = {"dtype": dtype, "attn_implementation": attention, "output_loading_info": True}
    try:
        try:
            loaded, info = transformers.AutoModelForCausalLM.from_pretrained(model, **chosen)
        except ValueError as error:  # some kinds have one attention alone
            if "attn_implementation" not in str(error) and "eager" not in str(error):
                raise
            loaded, info = transformers.AutoModelForCausalLM.from_pretrained(model, **chosen | {"attn_implementation": "eager"})
    except Exception as error:  # a damaged file, a missing library, a config of another kind: each loader fails in its own way
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
        raise InputError(
            f"model={model!r} cannot be loaded as a causal language model ({reason}); give its folder, or a hub name"
        ) from None
    loaded = loaded.eval()
    if hasattr(loaded.config, "_experts_implementation"):
        loaded.config._experts_implementation = "eager"  # grouped products of experts refuse float64
    _refuse_incomplete(model, info)
    _refuse_not_finite(model, loaded)
    _refuse_bidirectional(model, loaded)
    return loaded


def _refuse_incomplete(model: str, info: Mapping[str, Any]) -> None:
    """Refuse weights that the checkpoint lacks: the library would draw them at random, another model at each call."""
    for what, words in (("missing_keys", "lacks"), ("mismatched_keys", "holds in another shape")):
        names = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in info.get(what) or ())
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise InputError(
                f"model={model!r}: the checkpoint {words} {len(names)} of the model's weights ({shown}); they would be drawn at random."
                " Was it saved without its head, or is its config.json that of another class?"
            )


def _refuse_not_finite(model: str, loaded: nn.Module) -> None:
    for name, weight in loaded.state_dict().items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            count = int((~torch.isfinite(weight)).sum())
            raise InputError(
                f"model={model!r}: {count} of {weight.numel():,} entries of {name} are not finite; nothing can be measured on it"
            )


def _refuse_bidirectional(model: str, loaded: Any) -> None:
    """Refuse a model whose answer at a token depends on later ones: its next-token loss is no loss of it."""
    ids = torch.arange(8)[None] % loaded.config.vocab_size
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % loaded.config.vocab_size
    with torch.no_grad():
        before, after = (loaded(input_ids=tokens, use_cache=False).logits[0, :-1].double() for tokens in (ids, other))
    # A causal mask gives equal numbers up to the order of sums; a bidirectional model differs by some share of its logits.
    if not torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.std()) + 1e-12):
        raise InputError(
            f"model={model!r} is bidirectional: what it says at a token changes with later tokens, so that a next-token loss is not its"
            " own; verify measures causal language models"
        )


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of all weights by name, in float64."""
    weights = hashlib.sha256()
    for name, parameter in sorted(model.state_dict().items()):
        weights.update(name.encode())
        weights.update(parameter.detach().to("cpu", torch.float64).numpy().tobytes())
    return weights.hexdigest()


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
    return read_bytes(text, name="text", expected="a text file", limit=TEXT_LIMIT).decode("utf-8", errors="replace")


def _ids(transformers: Any, model: str, text: str, vocabulary: int) -> list[int]:
    """Token ids by the model's own tokenizer; bytes where it has none and its vocabulary holds them."""
    try:
        found = transformers.AutoTokenizer.from_pretrained(model)(text)["input_ids"]
    except Exception:  # a folder without tokenizer files fails in many ways, by the kind of model
        found = []
    if found:  # some kinds make an empty tokenizer from nothing, which makes no tokens
        if max(found) >= vocabulary:
            raise InputError(f"model={model!r}: its tokenizer gives token {max(found)}, its vocabulary ends at {vocabulary - 1}")
        return found
    if vocabulary < 256:
        raise InputError(f"model={model!r} has no tokenizer, and its vocabulary of {vocabulary} is too small for bytes")
    return list(text.encode("utf-8"))
