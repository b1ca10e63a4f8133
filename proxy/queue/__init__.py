"""Where requests wait for a slot, and in which order they go on."""
