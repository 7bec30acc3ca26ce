"""Files looked at from outside: what is in them, and whether it is sound."""
