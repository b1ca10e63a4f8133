"""`capture`: what was asked and answered, logged."""
