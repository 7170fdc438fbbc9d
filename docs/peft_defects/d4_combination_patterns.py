# A linear combination under rank_pattern is saved with a config that its tensors do not fit.
# Seen by: peft:lora@operations check_combine_patterns. Thread: https://github.com/huggingface/peft/issues/3737.
from peft import LoraConfig, get_peft_model
from torch import nn

config = LoraConfig(r=8, rank_pattern={"0": 2}, target_modules=["0", "1"])
model = get_peft_model(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)), config)
model.add_weighted_adapter(["default"], [1.0], "sum", combination_type="linear")
new = model.peft_config["sum"]
found = model.base_model.model[0].lora_A["sum"].weight.shape[0]
expected = (new.rank_pattern or {}).get("0", new.r)
print(f"found {found}, expected {expected}")
