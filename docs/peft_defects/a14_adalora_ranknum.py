# AdaLoRA trains its rank: on a model that is not float32 ranknum requires gradients, and every optimizer moves the scale.
# Seen by: peft:adalora check_factors_trained. Thread: no thread found.
import torch
from peft import AdaLoraConfig, get_peft_model
from torch import nn

config = AdaLoraConfig(init_r=4, total_step=100, target_modules=["0"], init_lora_weights=False)
model = get_peft_model(nn.Sequential(nn.Linear(8, 6)).to(torch.bfloat16), config)
found, expected = model.base_model.model[0].ranknum["default"].requires_grad, False
model(torch.ones(1, 8, dtype=torch.bfloat16)).sum().backward()
print(model.base_model.model[0].ranknum["default"].grad)
print(f"found {found}, expected {expected}")
