"""Jobs: workflows run one after the other on a file, for one file or for many."""
