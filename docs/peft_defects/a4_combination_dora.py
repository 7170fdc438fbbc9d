# add_weighted_adapter drops DoRA's trained magnitudes.
# Seen by: peft:lora?use_dora=true check_combine_one. Thread: https://github.com/huggingface/peft/issues/3761.
from peft import LoraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=2, target_modules=["0"], use_dora=True))
magnitude = model.base_model.model[0].lora_magnitude_vector
magnitude["default"].weight.data.mul_(2)
model.add_weighted_adapter(["default"], [1.0], "sum", combination_type="linear")
found, expected = float((magnitude["sum"].weight / magnitude["default"].weight).mean()), 1.0
print(f"found {found}, expected {expected}")
