# AdaLoRA: set_scale(1) divides what is added by the rank.
# Seen by: peft:adalora check_set_scale_one. Thread: no thread found.
from peft import AdaLoraConfig, get_peft_model
from torch import nn

config = AdaLoraConfig(init_r=4, total_step=100, target_modules=["0"], init_lora_weights=False)
layer = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config).base_model.model[0]
before = layer.get_delta_weight("default")
layer.set_scale("default", 1.0)
found, expected = float((layer.get_delta_weight("default") / before).median()), 1.0
print(f"found {found}, expected {expected}")
