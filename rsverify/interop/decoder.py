"""Llama, Mistral and Qwen2 of transformers as the native kernels take them: the model's own weights, no copy, under their own names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rsverify.training.native.decoder import Block, Decoder, Linear, Norm

KINDS = ("llama", "mistral", "qwen2")
"""Kinds whose modules compute nothing else; Qwen2 has biases on q, k and v."""
PLAIN = (nn.Linear, nn.Embedding, nn.ModuleList, nn.SiLU)
LINEARS = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip


def decoder_of(model: Any, *, tokens: int | None) -> Decoder | None:
    """A causal language model on sequences of at most so many tokens (None: of any length); None where the kernels do not compute what its
    forward does.

    That is any other kind of model, a module of another class, with hooks or used twice, another activation or way of attention, a window
    shorter than the sequences, a head with a bias, weights in another dtype than float32 or not on the CPU.
    """
    if not _is_known(model) or not _is_plain(model, tokens):
        return None
    base = model.model
    blocks = tuple(
        Block(
            Norm(layer.input_layernorm.weight, layer.input_layernorm.variance_epsilon),
            Norm(layer.post_attention_layernorm.weight, layer.post_attention_layernorm.variance_epsilon),
            {role: _linear(f"model.layers.{i}.{name}", layer.get_submodule(name)) for role, name in LINEARS.items()},
        )
        for i, layer in enumerate(base.layers)
    )

    def rotation(length: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            cos, sin = base.rotary_emb(base.embed_tokens.weight, torch.arange(length)[None])
        return cos[0], sin[0]

    config, embedding = model.config, base.embed_tokens.weight
    norm = Norm(base.norm.weight, base.norm.variance_epsilon)
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    return Decoder("input_ids", embedding, model.lm_head.weight, norm, blocks, heads, kv_heads, rotation)


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _is_known(model: Any) -> bool:
    """Whether every module is of the library's own class for that kind, stands in one place, and nothing was put on it."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    home = f"transformers.models.{kind}.modeling_{kind}"
    if kind not in KINDS or type(model).__module__ != home or not type(model).__name__.endswith("ForCausalLM"):
        return False
    if any(getattr(nn.modules.module, f"_global{hooks}") for hooks in HOOKS):
        return False
    modules = [module for _, module in model.named_modules(remove_duplicate=False)]
    once = [module for module in modules if not isinstance(module, nn.SiLU) and type(module).__name__ != "SiLUActivation"]
    return len({id(module) for module in once}) == len(once) and all(
        (type(module) in PLAIN or type(module).__module__ == home or type(module).__name__ == "SiLUActivation")
        and not any(getattr(module, hooks) for hooks in HOOKS)
        and "forward" not in vars(module)
        for module in modules
    )


def _is_plain(model: Any, tokens: int | None) -> bool:
    config, base = model.config, model.model
    windows = [getattr(layer.self_attn, "sliding_window", None) for layer in base.layers]
    if config.model_type == "mistral":
        windows.append(config.sliding_window)
    linears = [linear for layer in base.layers for linear in map(layer.get_submodule, LINEARS.values())]
    return (
        len(base.layers) == config.num_hidden_layers > 0
        and config.hidden_act in ("silu", "swish")
        and config._attn_implementation in ("eager", "sdpa")
        and all(layer.self_attn.scaling == layer.self_attn.head_dim**-0.5 and layer.self_attn.is_causal for layer in base.layers)
        and all(window is None or (tokens is not None and window >= tokens) for window in windows)
        and all(type(linear) is nn.Linear for linear in [*linears, model.lm_head])
        and model.lm_head.bias is None
        and base.embed_tokens.max_norm is None
        and all(p.dtype == torch.float32 and p.device.type == "cpu" and p.is_contiguous() for p in model.parameters())
    )


def _linear(name: str, module: nn.Linear) -> Linear:
    return Linear(name, module.weight, module.bias)
