"""What `rsverify check peft:all` runs: every tuner that takes a rank, LoRA with each of its inits and flags."""

from __future__ import annotations

from rsverify.interop.peft.methods import METHODS

LORA = (
    "",
    "use_rslora=true",
    "init_lora_weights=false",
    "init_lora_weights=gaussian",
    "init_lora_weights=orthogonal",
    "init_lora_weights=eva",
    "init_lora_weights=pissa",
    "init_lora_weights=pissa&use_rslora=true",
    "init_lora_weights=pissa_niter_4",
    "init_lora_weights=olora",
    "init_lora_weights=olora&use_rslora=true",
    "init_lora_weights=pissa&low_cpu_mem_usage=true",
    "init_lora_weights=loftq&loftq_config={}",
    "use_dora=true",
    "use_dora=true&use_rslora=true",
    "lora_bias=true",
    'rank_pattern={"layer":4}&alpha_pattern={"layer":8}',
    'rank_pattern={"layer":4}&use_rslora=true',
    "on=parameter",
    "on=parameter&use_rslora=true",
    "combination_type=linear&use_rslora=true",
    "combination_type=svd&use_rslora=true",
    "hotswap=true",
    "hotswap=true&use_rslora=true",
    'hotswap=true&alpha_pattern={"layer":8}',
    "low_cpu_mem_usage=true",
)

OTHERS = (
    "adalora?use_rslora=true",
    'loha?rank_pattern={"layer":4}&alpha_pattern={"layer":8}',
    "loha?init_weights=false",
    "lokr?init_weights=lycoris",
    "lokr?decompose_both=true",
    "miss?init_weights=bat",
    "miss?init_weights=mini",
    "hira?init_weights=gaussian",
    "gralora?hybrid_r=2",
    "deft?alpha=20",
)


def all_targets() -> tuple[str, ...]:
    """Target texts in the order of METHODS, LoRA's variants first."""
    lora = [f"peft:lora?{query}" if query else "peft:lora" for query in LORA]
    plain = [f"peft:{name}" for name, method in METHODS.items() if name != "lora" and not method.cannot]
    return (*lora, *plain, *(f"peft:{target}" for target in OTHERS))


SAME_MOTION = ("on=", "pattern=", "combination_type=", "hotswap=", "low_cpu_mem_usage=", "lora_bias=")


def moves_as_another(target: str) -> bool:
    """Whether a recipe differs from another in its operations only: how it moves with the rank is then checked on that other one."""
    return any(word in target for word in SAME_MOTION)
