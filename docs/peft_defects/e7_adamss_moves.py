# AdaMSS keeps a tensor that is neither parameter nor buffer: moved to another type or device, the model fails.
# Seen by: peft:adamss check_dtype_moves. Thread: no thread found.
import torch
from peft import AdamssConfig, get_peft_model
from torch import nn

config = AdamssConfig(r=4, num_subspaces=2, target_modules=["0"])
model = get_peft_model(nn.Sequential(nn.Linear(12, 12)), config).double()
try:
    found, expected = tuple(model(torch.ones(2, 12, dtype=torch.float64)).shape), (2, 12)
except RuntimeError as error:
    found, expected = str(error)[:60], (2, 12)
print(f"found {found}, expected {expected}")
