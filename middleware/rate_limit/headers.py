"""Headers that tell a caller what is left of a limit: OpenAI's ``x-ratelimit-*`` and the IETF's ``RateLimit`` fields.

The IETF's fields follow draft-ietf-httpapi-ratelimit-headers-10. ``RateLimit-Policy`` describes the limit (q: quota,
w: window in seconds, qu: unit); ``RateLimit`` describes its state (r: left, t: seconds until there is more).
"""

from collections.abc import Sequence
from math import ceil
from typing import Final

from proxy.kernel.asgi import Header
from proxy.kernel.quotas import Level, Unit

_UNITS: Final[dict[Unit, str]] = {"requests": "", "tokens": ';qu="tokens"', "streams": ';qu="concurrent-requests"'}
_OPENAI: Final[dict[Unit, tuple[bytes, bytes, bytes]]] = {
    "requests": (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"),
    "tokens": (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"),
}


def announce(headers: list[Header], levels: Sequence[Level], names: Sequence[str]) -> None:
    """Add the fields that describe `levels` to `headers`; `names` are the names of their limits.

    Clients expect each of OpenAI's fields once. The fields therefore describe the counter with the least left,
    including the counters of another `rate_limit` entry in the chain.
    """
    tightest: dict[Unit, Level] = {}
    policies, states = [], []
    for level in levels:
        unit, window, left = level.unit, level.window, level.left
        if window is None:
            name = f'"{names[level.quota]}-streams"'
            policies.append(f"{name};q={level.amount}{_UNITS['streams']}")
            states.append(f"{name};r={left}")
            continue
        name = f'"{names[level.quota]}-{unit}-{window.period}"'
        policies.append(f"{name};q={level.amount};w={ceil(window.rate.per)}{_UNITS[unit]}")
        states.append(f"{name};r={left};t={ceil(level.resets_in)}")
        if unit not in tightest or left < tightest[unit].left:
            tightest[unit] = level
    for unit, level in tightest.items():
        _announce_tightest(headers, _OPENAI[unit], level)
    headers.append((b"ratelimit-policy", ", ".join(policies).encode()))
    headers.append((b"ratelimit", ", ".join(states).encode()))


def _announce_tightest(headers: list[Header], fields: tuple[bytes, bytes, bytes], level: Level) -> None:
    limit, remaining, reset = fields
    for name, value in headers:
        if name == remaining:
            if int(value) <= level.left:
                return
            headers[:] = [header for header in headers if header[0] not in fields]
            break
    headers += (
        (limit, b"%d" % level.amount),
        (remaining, b"%d" % level.left),
        (reset, duration(level.resets_in).encode()),
    )


def duration(seconds: float) -> str:
    """Return `seconds`, rounded up, in OpenAI's format: ``12ms``, ``1.5s``, ``6m0s``, ``1h0m0s``."""
    milliseconds = ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:g}s"
    minutes, rest = divmod(ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
