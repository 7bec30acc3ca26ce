"""Rows: which are meant, and values for them."""
