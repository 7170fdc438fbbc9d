# EVA's initialization turns target_modules into a list: add_weighted_adapter then raises TypeError.
# Seen by: peft:lora?init_lora_weights=eva check_combine_one. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model, initialize_lora_eva_weights
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=2, init_lora_weights="eva", target_modules=["0"]))
initialize_lora_eva_weights(model, eva_state_dict={"base_model.model.0": torch.eye(2, 8)})
try:
    found, expected = model.add_weighted_adapter(["default"], [1.0], "sum", combination_type="linear"), None
except TypeError as error:
    found, expected = str(error), None
print(f"found {found}, expected {expected}")
