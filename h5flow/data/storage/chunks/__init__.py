"""Chunks of a dataset: how long they are, and read and written without HDF5's lock."""
