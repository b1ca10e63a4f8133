"""Requests that outlive their connection: they run when a slot is free, and what was answered is read from any byte.

`runner` claims entries of the journal and lets each pass the frame (`run`), which is recorded (`record_writer`) and
ends as `verdict` says. `owners_api` answers the owner of an entry, by the table of `stored_routes`.

May import: `proxy.kernel`.
"""
