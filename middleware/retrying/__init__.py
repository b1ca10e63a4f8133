"""What `retry` decides by, and how it asks two backends at once."""
