"""What the paper's own evidence is made by: a command each, `python paper/gather/NAME.py`, that writes `paper/evidence/NAME.json`."""
