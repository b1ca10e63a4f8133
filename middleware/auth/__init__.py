"""`auth`: who is calling. One file for each way to say it; ``plugin.py`` tries them in order."""
