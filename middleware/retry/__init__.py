"""`retry`: what failed before its first byte is tried again."""
