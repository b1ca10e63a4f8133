"""What everything else may import, plugins too: contracts, data, and small pure functions.

May import: nothing.
"""
