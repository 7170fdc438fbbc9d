# EVA's redistribution of ranks changes the scale under use_rslora: alpha is multiplied by new/old, as alpha/r would need.
# Seen by: peft:lora@operations check_eva_scale. Thread: no thread found.
import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from torch import nn

config = LoraConfig(r=4, lora_alpha=20, use_rslora=True, init_lora_weights="eva", eva_config=EvaConfig(), target_modules=["0"])
model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config)
before = model.base_model.model[0].scaling["default"]
initialize_lora_eva_weights(model, eva_state_dict={"base_model.model.0": torch.eye(2, 8)})
found, expected = model.base_model.model[0].scaling["default"], before
print(f"found {found}, expected {expected}")
