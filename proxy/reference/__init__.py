"""The generators of docs/reference and config/schema.json."""
