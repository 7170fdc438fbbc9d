# create_lorafa_optimizer with lora_bias=True: parameters are paired by position, and step raises.
# Seen by: peft:lora@operations check_lorafa_bias. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer
from torch import nn

config, found, expected = LoraConfig(r=2, target_modules=["0", "1"], lora_bias=True), "stepped", "stepped"
model = get_peft_model(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)), config)
model(torch.ones(1, 8)).sum().backward()
try:
    create_lorafa_optimizer(model, r=2, lora_alpha=8, lr=1e-3).step()
except RuntimeError as error:
    found = str(error)[:60]
print(f"found {found}, expected {expected}")
