# LoKr applies alpha/r although both Kronecker factors are full matrices and r counts nothing.
# Seen by: peft:lokr check_rank_used. Thread: no thread found.
from peft import LoKrConfig, get_peft_model
from torch import nn

layers = []
for r in (32, 64):
    model = get_peft_model(nn.Sequential(nn.Linear(8, 8)), LoKrConfig(r=r, alpha=8, target_modules=["0"]))
    layers.append(model.base_model.model[0])
same_parameters = layers[0].lokr_w2["default"].shape == layers[1].lokr_w2["default"].shape
found, expected = layers[1].scaling["default"] / layers[0].scaling["default"], 1.0 if same_parameters else 0.5
print(f"found {found}, expected {expected}")
