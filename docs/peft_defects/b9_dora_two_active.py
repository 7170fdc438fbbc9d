# Two active DoRA adapters: training and evaluation mode are different functions, without any dropout to speak of.
# Seen by: peft:lora@operations check_dora_modes. Thread: https://github.com/huggingface/peft/issues/3608 (a neighbour).
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

config = LoraConfig(r=2, target_modules=["0"], use_dora=True, init_lora_weights=False, lora_dropout=1e-12)
model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config)
model.add_adapter("b", config)
model.base_model.set_adapter(["default", "b"])
for part in model.base_model.model[0].lora_magnitude_vector.values():
    part.weight.data.mul_(2)
expected, found = (float(model.train(mode)(torch.ones(1, 8)).sum()) for mode in (True, False))
print(f"found {found}, expected {expected}")
