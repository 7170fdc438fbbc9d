# DoraCaching goes on with the old weight after set_scale.
# Seen by: peft:lora@operations check_dora_cache. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import DoraCaching
from torch import nn

config = LoraConfig(r=2, target_modules=["0"], use_dora=True, init_lora_weights=False)
model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config).eval()
with DoraCaching():
    model(torch.ones(1, 8))
    model.base_model.model[0].set_scale("default", 3.0)
    found = round(float(model(torch.ones(1, 8)).sum()), 4)
expected = round(float(model(torch.ones(1, 8)).sum()), 4)
print(f"found {found}, expected {expected}")
