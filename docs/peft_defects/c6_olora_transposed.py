# OLoRA ignores fan_in_fan_out: on a Conv1D the adapted model is not the base model at init.
# Seen by: peft:lora@transposed-olora check_model_init. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

base, x = nn.Sequential(Conv1D(8, 8)), torch.eye(8)
expected = base(x).detach()
config = LoraConfig(r=2, target_modules=["0"], fan_in_fan_out=True, init_lora_weights="olora")
found, expected = bool((get_peft_model(base, config)(x) - expected).norm() > 1e-3), False
print(f"found {found}, expected {expected}")
