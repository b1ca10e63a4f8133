"""`logging`: one line per request."""
