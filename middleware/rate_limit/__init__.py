"""`rate_limit`: how much each caller may use."""
