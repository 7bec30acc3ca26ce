"""References between the rows of datasets: added, found, followed."""
