"""The generators of ``docs/reference`` and ``config/schema.json``; ``scripts/generate`` runs them.

May import: everything.
"""
