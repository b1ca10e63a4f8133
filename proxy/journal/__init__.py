"""The homes of the journal: memory, a SQLite file, Redis Streams.

``entries`` and ``runs`` are the rules that the contract `proxy.kernel.journal.Journal` demands, for a home that one
process has to itself, over a ``shelf`` in memory or in SQLite; ``turns`` says whose turn it is, and ``ledger`` keeps
both true. In Redis the same rules are scripts, in ``scripts/``.

May import: `proxy.kernel`, `proxy.stores`.
"""
