"""`parameters`: what a request may choose of a model's run."""
