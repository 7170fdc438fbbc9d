# unmerge takes the delta of the scale now in force out, not the one that was merged.
# Seen by: peft:lora check_unmerge_scaled. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
layer = model.base_model.model[0]
W = layer.weight.detach().clone()
model.merge_adapter()
layer.set_scale("default", 0.5)
model.unmerge_adapter()
found, expected = float((layer.weight - W).norm() / W.norm()) > 1e-3, False
print(f"found {found}, expected {expected}")
