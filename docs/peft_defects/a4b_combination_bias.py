# add_weighted_adapter drops the trained biases of lora_bias.
# Seen by: peft:lora?lora_bias=true check_combine_one. Thread: https://github.com/huggingface/peft/issues/3761.
from peft import LoraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=2, target_modules=["0"], lora_bias=True))
B = model.base_model.model[0].lora_B
B["default"].bias.data.fill_(1.0)
model.add_weighted_adapter(["default"], [1.0], "sum", combination_type="linear")
found, expected = float(B["sum"].bias.mean()), 1.0
print(f"found {found}, expected {expected}")
