"""The pretrained base that comes with the package, its bytes checked against its manifest."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import Any

import torch
from safetensors.torch import load

from rsverify.errors import CheckpointError
from rsverify.training.model.device import as_device
from rsverify.training.model.transformer import Transformer, TransformerConfig


def base_manifest() -> dict[str, Any]:
    """What `base.json` says of the base: sizes, script, seed, text hash, held-out bits per byte, SHA-256."""
    return json.loads(_data("base.json"))


def load_base(*, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float64) -> Transformer:
    """The byte-level base, pretrained on English, frozen.

    Raises: CheckpointError where the bytes are not those of the manifest; InputError for a device that is not there.
    """
    place = as_device(device)
    manifest, data = base_manifest(), _data("base.safetensors")
    verify_checkpoint(data, manifest["sha256"])
    with torch.device("meta"):
        model = Transformer(TransformerConfig(**manifest["config"]))
    model.load_state_dict(load(data), assign=True)
    return model.to(place, dtype).requires_grad_(False).eval()


def check_base() -> None:
    """Refuse the base that comes with the package where its bytes are not those of its manifest.

    Raises: CheckpointError.
    """
    verify_checkpoint(_data("base.safetensors"), base_manifest()["sha256"])


def verify_checkpoint(data: bytes, expected: str) -> None:
    """Refuse a checkpoint whose SHA-256 is not the expected one."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise CheckpointError(
            f"base.safetensors has sha256={found}, its manifest says {expected}: the file is damaged or was replaced;"
            " reinstall rsverify, or make the base anew with python -m rsverify.training.model.pretraining"
        )


def _data(name: str) -> bytes:
    return files("rsverify.training.model").joinpath("data", name).read_bytes()
