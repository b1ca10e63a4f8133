"""The chain of plugins: planned from the policy file, built, and run in the frame.

May import: `proxy.kernel`, `config`, `middleware:BUILTIN`.
"""
