"""`capture`: logs prompts and answers."""
