# convert_to_lora: entries of a container in modules_to_save collapse to the last part of their names.
# Seen by: peft:lora@operations check_convert_containers. Thread: no thread found.
from peft import LoHaConfig, convert_to_lora, get_peft_model
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin, self.head = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


model = get_peft_model(Model(), LoHaConfig(r=2, target_modules=["lin"], modules_to_save=["head"]))
_, tensors = convert_to_lora(model, 6)
found, expected = sum("head" in key for key in tensors), 4
print(f"found {found}, expected {expected}")
