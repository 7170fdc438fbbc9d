"""The pass of many configurations by hooks on a model and torch.autograd."""
