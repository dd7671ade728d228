"""Many objectives on the same pairs from the same policy: one command, one folder, one report."""
