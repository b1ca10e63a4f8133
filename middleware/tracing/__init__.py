"""`tracing`: a trace of every request."""
