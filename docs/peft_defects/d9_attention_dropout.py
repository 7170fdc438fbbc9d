# MultiheadAttention and Embedding take lora_dropout and ignore it.
# Seen by: peft:lora@operations check_attention_dropout. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

config = LoraConfig(target_modules=["0"], lora_dropout=0.5, init_lora_weights=False)
model = get_peft_model(nn.Sequential(nn.Embedding(10, 8)), config).train()
x = torch.arange(10)
found, expected = bool(torch.equal(model(x), model(x))), False
print(f"found {found}, expected {expected}")
