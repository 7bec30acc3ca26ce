"""What components hold: datasets, files and attributes as h5py's, watched by an observer."""
