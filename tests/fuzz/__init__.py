"""Fuzzers: bytes from a stranger against the readers of this project, each judged by another reader.

- ``targets/<name>.py`` says what must hold for any bytes: ``check(data)`` raises AssertionError where it does not.
- ``oracles/`` has the other readers: RFC 9112 and JSON read strictly, Go's readers as a model and as recorded answers.
- ``corpus/<name>/`` keeps the inputs worth keeping: edge cases by hand, findings, and what reached new code.
- ``test_targets.py`` runs every target over its corpus and over mutations of it; ``scripts/fuzz`` runs atheris,
  which is guided by coverage.
"""
