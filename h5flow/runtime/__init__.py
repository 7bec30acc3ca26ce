"""What happens between a generator's slice and the last stage."""
