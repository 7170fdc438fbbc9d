"""The checks, one file a family; `conformance.registry` finds them."""
