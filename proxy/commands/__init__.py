"""The commands of the command line that need more than one call.

May import: everything.
"""
