"""Several ranks on one file: who is where, what they do together, and what they send each other."""
