"""A host without a network: how its calls to the cloud and to a registry fail, in the words of Go's HTTP client."""

import time
from typing import Final

from proxy.simulator.model_names import Name

CLOUD: Final = "ollama.com:443"
_REFUSED: Final = "dial tcp 127.0.0.1:{port}: connect: connection refused"
_PROXY: Final = "proxyconnect tcp: " + _REFUSED.format(port=1)
_LOOPBACK: Final = ("localhost", "127.0.0.1")


def cloud_failure(path: str) -> str:
    """Return the error of a POST to the cloud."""
    return f'Post "https://{CLOUD}{path}?ts={int(time.time())}": {_PROXY}'


def registry_failure(method: str, name: Name, path: str, *, insecure: bool = False) -> str:
    """Return the error of a call to the registry of `name`; one on this machine is asked without a proxy."""
    host, _, port = name.host.partition(":")
    scheme, cause = "https", _PROXY
    if host in _LOOPBACK:
        scheme = "http" if insecure else "https"
        cause = _REFUSED.format(port=port or 443)
    return f'{method} "{scheme}://{name.host}/v2/{name.namespace}/{name.model}/{path}": {cause}'
