"""The checks: a file holds one subject with all its facets, and each check names its family. `conformance.registry` finds them."""
