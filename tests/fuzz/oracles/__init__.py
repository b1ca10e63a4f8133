"""Other readers of the same bytes; they import nothing of ours, so that they cannot share a mistake with it."""
