"""How the committed base was made: `python -m rsverify.training.model.pretraining --out FOLDER` repeats it.

An hour on two cores. The run writes its state beside the checkpoint and goes on from there when started again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from rsverify.training.model.text import english
from rsverify.training.model.transformer import Transformer, TransformerConfig, next_token_loss

TOKENS = 256
"""Context of the base, in bytes."""


def pretrain(out: Path, *, config: TransformerConfig, steps: int, batch: int, lr: float, seed: int) -> dict[str, object]:
    """Train a base on `english` and write `base.safetensors` and `base.json` to `out`; returns what base.json holds."""
    corpus = english()
    data = torch.from_numpy(np.frombuffer(corpus.train, dtype=np.uint8).astype(np.int64))
    torch.manual_seed(seed)
    model = Transformer(config)
    decayed = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
    start, state_file = 0, out / "pretrain-state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    began, last = time.monotonic(), time.monotonic()
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        places = np.random.default_rng([seed, step]).integers(0, len(data) - TOKENS - 1, size=batch)
        tokens = torch.stack([data[place : place + TOKENS + 1] for place in places])
        loss = next_token_loss(model(tokens), tokens)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if time.monotonic() - last > 60 or step + 1 == steps:
            last = time.monotonic()
            spent = last - began
            bits = bits_per_byte(model, corpus.held_out[:20_000])
            print(f"step {step + 1}/{steps}  train {loss.item() / math.log(2):.3f}  held out (part) {bits:.3f}  {spent:.0f} s", flush=True)
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, state_file)
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, out / "base.safetensors")
    about: dict[str, object] = {
        "sha256": hashlib.sha256((out / "base.safetensors").read_bytes()).hexdigest(),
        "made_by": "python -m rsverify.training.model.pretraining",
        "config": config.to_dict(),
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "tokens": TOKENS,
        "text": corpus.name,
        "text_sha256": corpus.sha256,
        "text_bytes": len(corpus.train) + len(corpus.held_out),
        "held_out_bits_per_byte": round(bits_per_byte(model, corpus.held_out), 4),
        "torch": torch.__version__,
    }
    (out / "base.json").write_text(json.dumps(about, indent=2) + "\n")
    return about


@torch.no_grad()
def bits_per_byte(model: Transformer, text: bytes) -> float:
    """Mean bits that the model needs for a byte of `text`, each byte predicted once.

    Windows of 256 bytes overlap by half, so that every byte but the first 128 is seen with at least 128 before it.
    """
    data = torch.from_numpy(np.frombuffer(text, dtype=np.uint8).astype(np.int64)).to(next(model.parameters()).device)
    half, nats, count = TOKENS // 2, 0.0, 0
    starts = range(0, len(data) - TOKENS, half)
    for chunk in (starts[i : i + 64] for i in range(0, len(starts), 64)):
        tokens = torch.stack([data[start : start + TOKENS + 1] for start in chunk])
        logits = model(tokens[:, :-1])[:, half:]
        nats += torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, half + 1 :].flatten(), reduction="sum").item()
        count += logits.shape[0] * logits.shape[1]
    return nats / count / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=20231206)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(json.dumps(pretrain(config=TransformerConfig(), **vars(arguments)), indent=2))


if __name__ == "__main__":
    main()
