"""Profiles."""

import pytest

from bench.plan import FIRST, MEMORY, SHORT, STREAM, Profile


@pytest.mark.parametrize(
    ("profile", "holds", "name"),
    [
        (STREAM, True, "stream"),
        (FIRST, False, "first"),
        (SHORT, False, "short"),
        (MEMORY[0], True, "memory-1000"),
        (MEMORY[1], True, "memory-5000"),
    ],
)
def test_profiles(profile: Profile, holds: bool, name: str) -> None:
    assert (profile.holds, profile.name) == (holds, name)
