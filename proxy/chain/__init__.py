"""The chain of plugins: planned from the policy file, built, and run within the frame.

May import: `proxy.kernel`, `config`, `middleware:BUILTIN`.
"""
