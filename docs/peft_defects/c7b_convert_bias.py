# convert_to_lora drops the trained bias of lora_bias.
# Seen by: peft:lora@operations check_convert_bias. Thread: no thread found.
from peft import LoraConfig, convert_to_lora, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(6, 6)), LoraConfig(r=2, target_modules=["0"], lora_bias=True))
model.base_model.model[0].lora_B["default"].bias.data.fill_(1.0)
try:
    config, tensors = convert_to_lora(model, 6)
    found, expected = any("bias" in key for key in tensors), True
except ValueError:
    found, expected = True, True  # a refusal would be fair
print(f"found {found}, expected {expected}")
