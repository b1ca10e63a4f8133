"""The plugin `defer`: requests that run when a slot is free."""
