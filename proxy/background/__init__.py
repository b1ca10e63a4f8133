"""Background mode of the Responses API: responses that are made later, fetched and streamed from any event.

May import: `proxy.kernel`.
"""
