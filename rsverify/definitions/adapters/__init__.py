"""The known adapters, one small file each; `definitions.registry` finds them."""
