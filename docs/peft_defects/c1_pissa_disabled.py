# disable_adapter() with PiSSA is not the base model: the first product stays taken off the base weight.
# Seen by: peft:lora@operations check_pissa_disabled. Thread: https://github.com/huggingface/peft/issues/2184.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

base, x = nn.Sequential(nn.Linear(8, 6)), torch.ones(1, 8)
expected = round(float(base(x).sum()), 5)
model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa"))
with model.disable_adapter():
    found = round(float(model(x).sum()), 5)
print(f"found {found}, expected {expected}")
