# A DoRA adapter that is added while another adapter is merged takes its norms from the merged weight.
# Seen by: peft:lora?use_dora=true check_merge_add. Thread: https://github.com/huggingface/peft/pull/3423 (a neighbour: LN tuning).
from peft import LoraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(target_modules=["0"], init_lora_weights=False))
expected = float(model.base_model.model[0].weight.norm())
model.merge_adapter()
model.add_adapter("dora", LoraConfig(target_modules=["0"], use_dora=True))
model.unmerge_adapter()
found = float(model.base_model.model[0].lora_magnitude_vector["dora"].weight.norm())
print(f"found {found}, expected {expected}")
