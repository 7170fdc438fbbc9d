# LoHa's rank_dropout gives NaN when it drops all rows.
# Seen by: peft:loha@operations check_loha_rank_dropout. Thread: no thread found.
import torch
from peft import LoHaConfig, get_peft_model
from torch import nn

torch.manual_seed(0)
model = get_peft_model(nn.Sequential(nn.Linear(8, 2)), LoHaConfig(target_modules=["0"], rank_dropout=0.9)).train()
found, expected = all(bool(model(torch.ones(1, 8)).isfinite().all()) for _ in range(20)), True
print(f"found {found}, expected {expected}")
