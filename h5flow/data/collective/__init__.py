"""What the ranks of a job do together to one file."""
