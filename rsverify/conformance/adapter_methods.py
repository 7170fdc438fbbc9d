"""What a saved adapter folder of PEFT's methods looks like: where its rank and alpha stand, its rule, its tensors, the weight they add."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Saved:
    """A method whose scale is a number that the folder tells.

    Args:
        alpha: setting of the config, None where the method has none.
        usual: rank and alpha where the config says nothing.
        key: names of a module's tensors, as `module` and `part`.
        whole: sets of parts of which one is complete.
        ranks: parts whose shape at an index is the rank.
        added: the weight that the tensors add at scale 1, (d_out, d_in); None where it takes more than the folder.
    """

    rule: str
    alpha: str | None
    usual: tuple[int, float]
    key: re.Pattern[str]
    whole: tuple[frozenset[str], ...]
    ranks: Mapping[str, int]
    added: Callable[[Tensors], Tensor] | None = None


def _key(parts: str) -> re.Pattern[str]:
    return re.compile(rf"^(?P<module>.+)\.(?P<part>{parts})(\.weight)?$")


def _sets(*texts: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(text.split()) for text in texts)


def _loha(t: Tensors) -> Tensor:
    return (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])


def _lokr(t: Tensors) -> Tensor:
    first, second = (t[f"lokr_w{n}"] if f"lokr_w{n}" in t else t[f"lokr_w{n}_a"] @ t[f"lokr_w{n}_b"] for n in (1, 2))
    return torch.kron(first, second)


OTHERS = {
    "LOHA": Saved("alpha/r", "alpha", (8, 8.0), _key("hada_(?:w[12]_[ab]|t[12])"), _sets("hada_w1_a hada_w1_b hada_w2_a hada_w2_b"),
                  {"hada_w1_b": 0, "hada_w2_b": 0}, _loha),
    "LOKR": Saved("alpha/r", "alpha", (8, 8.0), _key("lokr_(?:w[12](?:_[ab])?|t2)"),
                  _sets("lokr_w1 lokr_w2", "lokr_w1 lokr_w2_a lokr_w2_b", "lokr_w1_a lokr_w1_b lokr_w2",
                        "lokr_w1_a lokr_w1_b lokr_w2_a lokr_w2_b"),
                  {"lokr_w1_b": 0, "lokr_w2_b": 0}, _lokr),
    "HIRA": Saved("1", None, (32, 1.0), _key("hira_[AB]"), _sets("hira_A hira_B"), {"hira_A": 0, "hira_B": 1}),
    "VERA": Saved("1", None, (256, 1.0), _key("vera_lambda_[bd]"), _sets("vera_lambda_b vera_lambda_d"), {"vera_lambda_d": 0}),
    "RANDLORA": Saved("alpha/r", "randlora_alpha", (32, 640.0), _key("randlora_(?:lambda|gamma|[AB])"),
                      _sets("randlora_lambda randlora_gamma"), {"randlora_lambda": 0}),
}  # fmt: skip
"""By PEFT's peft_type, besides LORA. HiRA's and VeRA's scale is 1. What HiRA, VeRA and RandLoRA add cannot be told from the folder."""

FUSED: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("qkv_proj", "qkv", "Wqkv", "query_key_value", "c_attn", "in_proj", "to_qkv"),
                    (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("to_q", "to_k", "to_v"), ("q", "k", "v"))),
    **dict.fromkeys(("kv_proj", "to_kv"), (("k_proj", "v_proj"), ("to_k", "to_v"))),
    **dict.fromkeys(("gate_up_proj", "w13"), (("gate_proj", "up_proj"), ("w1", "w3"))),
}  # fmt: skip
"""What serving stacks call layers that they fuse, and the parts in the order in which their rows lie."""
