# add_weighted_adapter under use_rslora makes the result sqrt(r) times too strong.
# Seen by: peft:lora?use_rslora=true check_combine_one. Thread: https://github.com/huggingface/peft/issues/3761.
from peft import LoraConfig, get_peft_model
from torch import nn

config = LoraConfig(r=4, use_rslora=True, target_modules=["0"], init_lora_weights=False)
model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config)
model.add_weighted_adapter(["default"], [1.0], "sum", combination_type="linear")
layer = model.base_model.model[0]
ratio = layer.get_delta_weight("sum") / layer.get_delta_weight("default")
found, expected = float(ratio.median()), 1.0
print(f"found {found}, expected {expected}")
