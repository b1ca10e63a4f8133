"""Towards the client: sockets, TLS, uvicorn's protocol guarded, and its bounds."""
