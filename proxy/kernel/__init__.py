"""The shared base that every other folder, and every plugin, may import: contracts, data, small pure functions.

May import: nothing.
"""
