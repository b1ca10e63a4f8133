"""What the proxy says of itself: metrics, log lines, traces."""
