# VeRA: a second adapter of smaller rank is accepted and fails in its forward pass.
# Seen by: peft:vera@operations check_vera_smaller. Thread: no thread found.
import torch
from peft import VeraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), VeraConfig(r=4, target_modules=["0"]))
model.add_adapter("small", VeraConfig(r=2, target_modules=["0"]))
model.set_adapter("small")
try:
    found, expected = model(torch.ones(1, 8)) is None, False
except RuntimeError as error:
    found, expected = str(error)[:60], False
print(f"found {found}, expected {expected}")
