# add_weighted_adapter under PiSSA changes the base weight again, and with it every adapter.
# Seen by: peft:lora?init_lora_weights=pissa check_combine_one. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa"))
W = model.base_model.model[0].weight.detach().clone()
model.add_weighted_adapter(["default"], [1.0], "sum", combination_type="linear")
found, expected = float((model.base_model.model[0].weight - W).abs().max()), 0.0
print(f"found {found}, expected {expected}")
