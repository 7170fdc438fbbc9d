# DoRA on a single vector returns a batch of one: (8,) gives (1, 6).
# Seen by: peft:lora?use_dora=true check_output_shapes. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(target_modules=["0"], use_dora=True))
found, expected = tuple(model(torch.ones(8)).shape), (6,)
print(f"found {found}, expected {expected}")
