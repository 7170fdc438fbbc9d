# AdaMSS cannot be called on a single vector.
# Seen by: peft:adamss check_output_shapes. Thread: no thread found.
import torch
from peft import AdamssConfig, get_peft_model
from torch import nn

config = AdamssConfig(r=4, num_subspaces=2, target_modules=["0"])
model = get_peft_model(nn.Sequential(nn.Linear(12, 12)), config)
try:
    found, expected = tuple(model(torch.ones(12)).shape), (12,)
except RuntimeError as error:
    found, expected = str(error)[:60], (12,)
print(f"found {found}, expected {expected}")
