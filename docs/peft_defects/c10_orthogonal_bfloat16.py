# The orthogonal init is no identity in bfloat16: B A is zero before the factors are rounded.
# Seen by: peft:lora@operations check_orthogonal_bfloat16. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.Linear(64, 64)).to(torch.bfloat16)
config = LoraConfig(r=16, lora_alpha=64, target_modules=["0"], init_lora_weights="orthogonal")
layer = get_peft_model(base, config, autocast_adapter_dtype=False).base_model.model[0]
A, B = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
found, expected = round(float((4 * B @ A).norm() / layer.weight.double().norm()), 4), 0.0
print(f"found {found}, expected {expected}")
