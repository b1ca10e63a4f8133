"""bench/credentials.py: that it measures what it says. How long that takes on this machine is no test's business."""

from bench.credentials import measure


def test_every_kind_of_credential_is_measured_in_every_round() -> None:
    found = measure(rounds=2, calls=3)
    assert list(found) == [
        "API key",
        "new token, RS256",
        "new token, ES256",
        "new token, Ed25519",
        "remembered token",
        "API key, access, limits",
        "remembered token, access, limits",
    ]
    assert all(len(costs) == 2 and min(costs) > 0 for costs in found.values())
