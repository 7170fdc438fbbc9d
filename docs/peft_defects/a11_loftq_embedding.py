# LoftQ on an embedding, convolution or parameter: loftq_init is called without its config.
# Seen by: peft:lora@embedding-loftq check_model_init. Thread: no thread found.
from peft import LoftQConfig, LoraConfig, get_peft_model
from torch import nn

config = LoraConfig(target_modules=["0"], init_lora_weights="loftq", loftq_config=LoftQConfig())
try:
    get_peft_model(nn.Sequential(nn.Embedding(10, 8)), config)
    found, expected = "built", "built"
except TypeError as error:
    found, expected = str(error), "built"
print(f"found {found}, expected {expected}")
