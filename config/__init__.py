"""The policy file, read into checked and typed settings.

Start at ``load``. ``settings`` defines what the file may hold; ``schema.json`` tells editors the same.

May import: `proxy.kernel`.
"""
