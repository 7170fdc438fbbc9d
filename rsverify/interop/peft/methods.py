"""What is known of each PEFT tuner: which setting is its rank, which its alpha, what rule it ships, and what it claims at init.

Source: the tuners' code in PEFT 0.21.2. Tuners that are in neither table are new: they are refused by name, never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rsverify.definitions.laws import Gaussian
from rsverify.definitions.registry import Declared, as_adapter

Options = Mapping[str, Any]
"""Settings of a tuner's config, as the user gave them."""


@dataclass(frozen=True)
class Method:
    """A tuner that takes a rank.

    Args:
        rank: the setting that is its rank. counts: what that number counts.
        alpha: the setting that its scale is proportional to, or None where it has none.
        rule: the scaling rule that PEFT ships, or a function of the settings.
        init: what it claims to be at init (see `Subject`), or a function of the settings.
        follows: the declaration that its layer follows where its init claims less, as `init` speaks of every rank and setting; for theory.
        seeded: the setting that seeds what it draws once for all layers.
        needed: settings without which it cannot be built on a small layer.
        cannot: why it cannot be judged on one linear layer by itself; empty where it can.
    """

    name: str
    rank: str
    counts: str
    alpha: str | None = None
    rule: str | Callable[[Options], str] = "1"
    init: str | Callable[[Options], str | Declared] = "identity"
    needed: Mapping[str, Any] = field(default_factory=dict)
    cannot: str = ""
    follows: str = ""
    seeded: str = ""

    def rule_for(self, options: Options) -> str:
        """The rule under these settings."""
        return self.rule(options) if callable(self.rule) else self.rule

    def init_for(self, options: Options) -> str | Declared:
        """The claim at init under these settings."""
        return self.init(options) if callable(self.init) else self.init


INNER = "inner dimension of B A"


def _lora_rule(options: Options) -> str:
    return "alpha/sqrt(r)" if options.get("use_rslora") else "alpha/r"


def _lora_init(options: Options) -> str | Declared:
    init = options.get("init_lora_weights", True)
    plain = not any(options.get(key) for key in ("lora_bias", "use_dora", "use_qalora", "kasa_config", "use_bdlora", "monteclora_config"))
    if init is False:
        return "random"
    if isinstance(init, str) and (init.startswith("pissa_niter") or init in ("corda", "lora_ga", "loftq", "mica")):
        return "residual"
    if options.get("use_dora"):
        return "dora" if init is True else "identity"
    if not plain:
        return "residual" if init in ("pissa", "olora") else "identity"
    if init in ("pissa", "olora"):
        return str(init)
    if init == "gaussian":
        return as_adapter("lora").with_init(A=Gaussian(std="1/r"))  # PEFT draws with std 1/r, not with variance 1/r
    return as_adapter("lora") if init is True else "identity"


def _unless_random(name: str, setting: str = "init_weights") -> Callable[[Options], str]:
    return lambda options: name if options.get(setting, True) is True else "random" if options[setting] is False else "identity"


def _hira_init(options: Options) -> str | Declared:
    if options.get("init_weights") == "gaussian":
        return as_adapter("hira").with_init(A=Gaussian(std="1/r"))  # as LoRA's: std 1/r
    return _unless_random("hira")(options)


def _gralora_rule(options: Options) -> str:
    return f"alpha/(r + {options['hybrid_r']})" if options.get("hybrid_r") else "alpha/r"


def _deft_rule(options: Options) -> str:
    return "alpha/r" if options.get("alpha") is not None else "1"


METHODS = {
    method.name: method
    for method in (
        Method("lora", "r", INNER, "lora_alpha", _lora_rule, _lora_init),
        Method("adalora", "init_r", INNER + " before pruning", "lora_alpha", "alpha/r", "adalora", {"total_step": 100, "target_r": 1}),
        Method("loha", "r", "inner dimension of each of two products", "alpha", "alpha/r", _unless_random("loha")),
        Method("lokr", "r", "inner dimension of the second Kronecker factor", "alpha", "alpha/r", _unless_random("identity"),
               follows="lokr"),
        Method("vera", "r", "length of the trained vector d", None, "1", _unless_random("identity"), follows="vera",
               seeded="projection_prng_key"),
        Method("pvera", "r", "length of the trained vector d", None, "1", _unless_random("identity"), seeded="projection_prng_key"),
        Method("randlora", "r", "rank of one random base", "randlora_alpha", "alpha/r", _unless_random("identity"), follows="randlora",
               seeded="projection_prng_key"),
        Method("hira", "r", INNER, None, "1", _hira_init),
        Method("miss", "r", "number of index classes", None, "1", _unless_random("miss")),
        Method("delora", "r", INNER, None, "1/r", _unless_random("identity"), follows="delora"),
        Method("gralora", "r", "inner dimension over all blocks", "alpha", _gralora_rule, _unless_random("identity"), {"gralora_k": 2}),
        Method("fourierft", "n_frequency", "trained entries of the spectrum", "scaling", "alpha",
               lambda options: "identity" if options.get("init_weights", True) else "random", {"init_weights": True}, follows="fourierft",
               seeded="random_loc_seed"),
        Method("waveft", "n_frequency", "trained wavelet coefficients", "scaling", "alpha", _unless_random("identity")),
        Method("psoft", "r", "size of the rotated principal subspace", "psoft_alpha", "alpha/r", _unless_random("identity")),
        Method("deft", "r", "size of the projected subspace", "alpha", _deft_rule, _unless_random("identity")),
        Method("supertuning", "r", INNER + " beside the sparse part", "lora_alpha", "alpha/r", "identity", {"sparsity": 0.5}),
        Method("lily", "r", INNER, "scaling", "alpha", _unless_random("identity")),
        Method("peanut", "r", "width of the inner network", "scaling", "alpha", _unless_random("identity")),
        Method("glora", "r", INNER, None, "1", _unless_random("identity")),
        Method("tinylora", "r", "size of the frozen SVD core", None, "1", "random", {"u": 8}),
        Method("unilora", "r", INNER, None, "1", "random"),
        Method("vblora", "r", INNER, None, "1", "random", {"vector_length": 6, "num_vectors": 12}),
        Method("adamss", "r", "size of the subspace that is split", None, "1", "identity", {"num_subspaces": 2}),
        Method("osf", "effective_rank", "singular directions that are kept frozen", None, "1", "identity"),
        Method("shira", "r", "r (d_in + d_out) entries of the weight", None, "1", "identity"),
        Method("hra", "r", "number of reflections", None, "1", _unless_random("identity")),
        Method("oft", "r", "number of rotated blocks", None, "1", _unless_random("identity"), {"oft_block_size": 0}),
        Method("poly", "r", INNER, cannot="its forward pass needs task ids: it is no function of x alone"),
        Method("xlora", "top_k_lora", "adapters mixed at once", cannot="it mixes trained LoRA adapters by a classifier of hidden states"),
        Method("shadow", "r", INNER, "shadow_alpha", cannot="it adapts a stack of decoder layers, not a linear layer"),
    )
}  # fmt: skip

WITHOUT_RANK = {
    "adaption_prompt": "it learns prompts inside attention layers",
    "beft": "it trains biases",
    "boft": "its size is that of butterfly blocks, a divisor of the width",
    "c3a": "its size is that of circulant blocks, a divisor of the widths",
    "cartridge": "it learns a cache of keys and values",
    "cpt": "it learns prompts",
    "frod": "its size is a rate of sparsity",
    "ia3": "it trains one factor for each channel",
    "ln_tuning": "it trains layer norms",
    "multitask_prompt_tuning": "it learns prompts",
    "p_tuning": "it learns prompts",
    "prefix_tuning": "it learns a prefix of keys and values",
    "prompt_tuning": "it learns prompts",
    "road": "it rotates pairs of outputs",
    "trainable_tokens": "it trains rows of an embedding",
}
"""Tuners that take no rank, and what they have instead: not applicable."""
