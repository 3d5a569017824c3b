"""How fast training is: our engine against the loop that the field uses, on this machine, in one run."""
