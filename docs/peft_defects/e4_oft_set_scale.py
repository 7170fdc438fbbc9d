# OFT: set_scale raises AttributeError, its layers hold no scaling.
# Seen by: peft:oft check_set_scale_one. Thread: no thread found.
from peft import OFTConfig, get_peft_model
from torch import nn

config = OFTConfig(r=2, oft_block_size=0, target_modules=["0"])
layer = get_peft_model(nn.Sequential(nn.Linear(8, 8)), config).base_model.model[0]
try:
    found, expected = layer.set_scale("default", 1.0), None
except AttributeError as error:
    found, expected = str(error), None
print(f"found {found}, expected {expected}")
