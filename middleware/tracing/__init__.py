"""`tracing`: an OpenTelemetry trace of every request."""
