# A second PiSSA adapter changes the first one's output.
# Seen by: peft:lora?init_lora_weights=pissa check_adapter_added. Thread: https://github.com/huggingface/peft/issues/2184.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

config, x = LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa"), torch.ones(1, 8)
model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config)
expected = round(float(model(x).sum()), 5)
model.add_adapter("second", config)
found = round(float(model(x).sum()), 5)
print(f"found {found}, expected {expected}")
