# scale_layer(0) and unscale_layer(0): ZeroDivisionError.
# Seen by: peft:lora@operations check_scale_layer_zero. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from torch import nn

layer = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=2, target_modules=["0"])).base_model.model[0]
layer.scale_layer(0)
try:
    layer.unscale_layer(0)
    found, expected = "unscaled", "unscaled"
except ZeroDivisionError as error:
    found, expected = str(error), "unscaled"
print(f"found {found}, expected {expected}")
