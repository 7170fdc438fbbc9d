# OSF: merging a second time adds the adapter a second time, where other tuners warn and do nothing.
# Seen by: peft:osf check_merge_twice. Thread: no thread found.
from peft import OSFConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), OSFConfig(effective_rank=2, target_modules=["0"]))
for value in model.parameters():
    value.data.mul_(1.5 if value.requires_grad else 1)
layer = model.base_model.model[0]
norms = []
for _ in range(2):
    layer.merge()
    norms.append(float(layer.get_base_layer().weight.norm()))
expected, found = norms
print(f"found {found}, expected {expected}")
