# Conv3d with kernel (1, 1, k) cannot be merged: its shape is taken for that of a 1 x 1 Conv2d.
# Seen by: peft:lora@conv3d-flat check_model_merge. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Conv3d(3, 4, (1, 1, 2))), LoraConfig(r=2, target_modules=["0"]))
try:
    model.merge_adapter()
    found, expected = "merged", "merged"
except RuntimeError as error:
    found, expected = str(error), "merged"
print(f"found {found}, expected {expected}")
