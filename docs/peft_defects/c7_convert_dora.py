# convert_to_lora on DoRA drops the trained magnitudes without a word.
# Seen by: peft:lora@operations check_convert_dora. Thread: no thread found.
from peft import LoraConfig, convert_to_lora, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(6, 6)), LoraConfig(r=2, target_modules=["0"], use_dora=True))
layer = model.base_model.model[0]
layer.lora_magnitude_vector["default"].weight.data.mul_(2)  # doubles the weight: the added weight is W
expected = round(float(layer.weight.norm()), 4)
config, tensors = convert_to_lora(model, 6)
A, B = (tensors[f"base_model.model.0.lora_{side}.weight"] for side in "AB")
found = round(float((B @ A).norm()), 4)
print(f"found {found}, expected {expected}")
