# prepare_model_for_compiled_hotswap changes r in the config and leaves alpha: saved and reloaded, the scale is alpha/target_rank.
# Seen by: peft:lora@operations check_hotswap_prepared. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from peft.utils.hotswap import prepare_model_for_compiled_hotswap
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=4, lora_alpha=20, target_modules=["0"]))
expected = model.base_model.model[0].scaling["default"]
config = model.peft_config["default"]
prepare_model_for_compiled_hotswap(model, target_rank=16, config=config)
found = config.lora_alpha / config.r
print(f"found {found}, expected {expected}")
