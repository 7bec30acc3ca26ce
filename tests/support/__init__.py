"""What tests share: what makes files, runs commands, and compares."""
