"""The policy file: from YAML to checked, typed settings.

``load`` is the way in, ``settings`` says what may stand in the file, ``schema.json`` tells editors the same.

May import: `proxy.kernel`.
"""
