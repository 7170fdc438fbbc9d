# MultiheadAttention adds the delta of out_proj twice, merged and in its forward pass.
# Seen by: peft:lora@attention check_model_delta. Thread: https://github.com/huggingface/peft/pull/3774.
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.MultiheadAttention(8, 2))
W = base[0].out_proj.weight.detach().clone()
model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
delta = model.base_model.model[0].base_layer.out_proj.get_delta_weight("default").detach()
model.merge_adapter()
added = model.base_model.model[0].base_layer.out_proj.weight - W
found, expected = float((added / delta).median()), 1.0
print(f"found {found}, expected {expected}")
