"""`parameters`: which parameters of a model's run a request may choose."""
