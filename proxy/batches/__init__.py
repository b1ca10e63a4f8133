"""Files, batches and message batches, as the SDKs of OpenAI and Anthropic speak them.

A batch is an entry of the journal, and each of its requests is one that names it as its parent. Nothing of its progress
is in memory alone: `proxy.batches.keeper` finds out from the journal what is to be done next, so that any process goes
on where another was killed.

May import: `proxy.kernel`.
"""
