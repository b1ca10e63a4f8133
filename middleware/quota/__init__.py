"""What `rate_limit` is made of: options, who counts together, what a request costs, and what its caller is told."""
