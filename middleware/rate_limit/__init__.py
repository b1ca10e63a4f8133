"""`rate_limit`: how much whom is let through."""
