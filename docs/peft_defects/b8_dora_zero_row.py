# DoRA: a row of zeros in the base weight gives NaN.
# Seen by: peft:lora?use_dora=true check_factors_finite. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.Linear(8, 6))
base[0].weight.data[0] = 0
model = get_peft_model(base, LoraConfig(target_modules=["0"], use_dora=True))
found, expected = bool(model(torch.ones(1, 8)).isfinite().all()), True
print(f"found {found}, expected {expected}")
