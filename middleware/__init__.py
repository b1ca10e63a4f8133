"""The plugins that ship with the proxy: one file or folder each, with the plugin's name in the policy file.

A plugin is a plain ASGI middleware. The signature of its constructor declares the options it takes from the policy file
and the kernel services it needs. No plugin imports another.

May import: `proxy.kernel`.
"""

from typing import Final

BUILTIN: Final = {
    "access": "middleware.access.plugin:Access",
    "auth": "middleware.auth.plugin:Auth",
    "capture": "middleware.capture.plugin:Capture",
    "cors": "middleware.cors:Cors",
    "defer": "middleware.defer.plugin:Defer",
    "logging": "middleware.logging.plugin:Logging",
    "metrics": "middleware.metrics:Metrics",
    "parameters": "middleware.parameters.plugin:Parameters",
    "queue": "middleware.queue:Queue",
    "rate_limit": "middleware.rate_limit.plugin:RateLimit",
    "responses": "middleware.responses:Responses",
    "resumable": "middleware.resumable.plugin:Resumable",
    "retry": "middleware.retry.plugin:Retry",
    "streaming": "middleware.streaming:Streaming",
    "tracing": "middleware.tracing.plugin:Tracing",
}
"""Name in the policy file → ``module:Class``, imported when a policy file names the plugin."""
