"""Any torch module that a factory builds, one draw at a time."""
