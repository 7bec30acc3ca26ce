"""The file of a job: opened, changed, kept up to date, published."""
