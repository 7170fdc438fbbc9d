# PiSSA beyond the layer's width: fewer rows than r, scale still alpha/r.
# Seen by: peft:lora@operations check_pissa_rank. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 3)), LoraConfig(r=5, target_modules=["0"], init_lora_weights="pissa"))
layer = model.base_model.model[0]
found, expected = layer.lora_A["default"].weight.shape[0], layer.r["default"]
print(f"found {found}, expected {expected}")
