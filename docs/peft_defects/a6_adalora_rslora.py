# AdaLoRA takes use_rslora and ignores it.
# Seen by: peft:adalora@operations check_adalora_rslora. Thread: no thread found.
from peft import AdaLoraConfig, get_peft_model
from torch import nn

config = AdaLoraConfig(init_r=4, lora_alpha=20, use_rslora=True, total_step=100, target_modules=["0"], init_lora_weights=False)
layer = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config).base_model.model[0]
product = layer.lora_B["default"] @ (layer.lora_A["default"] * layer.lora_E["default"])
found, expected = round(float((layer.get_delta_weight("default") / product).median()), 3), 20 / 4**0.5
print(f"found {found}, expected {expected}")
