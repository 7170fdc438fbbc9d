"""A real PEFT training step as a process of its own: prints the bytes that it held at its peak beyond what was there before.

measured_peak.py CONFIG_JSON ATTENTION RANK TOKENS CHECKPOINTING. Linux only: /proc gives the peak and lets it be reset.
"""

import gc
import json
import sys
import warnings


def status(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def train(config, attention: str, rank: int, tokens: int, checkpointing: bool) -> None:
    import torch
    import torch.nn.functional as F
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    adapted = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear")).train()
    if checkpointing:
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
        adapted.enable_input_require_grads()
    ids = torch.zeros(1, tokens, dtype=torch.long)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):
        logits = adapted(input_ids=ids, use_cache=False).logits
        loss = F.cross_entropy(logits[:, :-1].float().reshape(-1, config.vocab_size), ids[:, 1:].reshape(-1))
        del logits
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        del loss


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    from transformers import LlamaConfig

    settings, attention, rank, tokens, checkpointing = json.loads(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
    small = {**settings, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 64}
    train(LlamaConfig(**small), attention, 4, 16, bool(checkpointing))  # libraries loaded, workspaces made
    gc.collect()
    before = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is counted anew
    train(LlamaConfig(**settings), attention, rank, tokens, bool(checkpointing))
    print(status("VmHWM") - before)
