"""The write buffer: pages of rows in memory over the file."""
