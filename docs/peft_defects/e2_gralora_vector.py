# GraLoRA cannot be called on a single vector.
# Seen by: peft:gralora check_output_shapes. Thread: no thread found.
import torch
from peft import GraloraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), GraloraConfig(r=4, gralora_k=2, target_modules=["0"]))
try:
    found, expected = tuple(model(torch.ones(8)).shape), (6,)
except ValueError as error:
    found, expected = str(error), (6,)
print(f"found {found}, expected {expected}")
