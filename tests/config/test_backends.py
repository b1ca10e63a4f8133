import json

import pytest
from pydantic import ValidationError

from config.backends import Backend, BackendTls, Pool, distinct
from config.problems import Mistakes
from proxy.kernel.units import Mistake


def backend(**options: object) -> Backend:
    written = json.dumps({"name": "gpu-1", "url": "http://127.0.0.1:11434", **options})
    return Backend.model_validate_json(written, strict=True)


def mistakes(error: ValidationError) -> list[str]:
    cause = error.errors()[0]["ctx"]["error"]
    if isinstance(cause, Mistakes):
        return [f"{path[-1]} {mistake.message}" for path, mistake in cause.found]
    assert isinstance(cause, Mistake)
    return [cause.message]


def test_a_backend_needs_a_name_and_a_url() -> None:
    simple = backend()
    assert (simple.name, simple.url, simple.weight, simple.tls, simple.headers) == (
        "gpu-1", "http://127.0.0.1:11434", 1.0, None, {},
    )  # fmt: skip


def test_headers_are_headers_and_secret() -> None:
    full = backend(headers={"Authorization": "Bearer s3cret"})
    assert full.headers["Authorization"].get_secret_value() == "Bearer s3cret"
    assert "s3cret" not in f"{full!r} {full} {full.headers} {full.model_dump_json()}"


def test_headers_that_are_none_are_all_named() -> None:
    with pytest.raises(ValidationError) as caught:
        backend(headers={"a b": "x", "Host": "x", "Content-Length": "1", "X-Ok": "x", "X-Bad": "a\r\nb", "X-Ü": "x"})
    assert mistakes(caught.value) == [
        "a b is not the name of a header",
        "Host is a header that the proxy itself has to set",
        "Content-Length is a header that the proxy itself has to set",
        "X-Bad must be printable ASCII on one line",
        "X-Ü is not the name of a header",
    ]


def test_a_client_certificate_needs_its_key() -> None:
    with pytest.raises(ValidationError) as caught:
        BackendTls.model_validate_json(json.dumps({"cert": __file__}), strict=True)
    assert mistakes(caught.value) == ["cert and key belong together"]
    BackendTls.model_validate_json(json.dumps({"cert": __file__, "key": __file__}), strict=True)


@pytest.mark.parametrize("given", [1, 4, "auto"])
def test_slots_per_model_are_a_number_or_learned(given: object) -> None:
    assert backend(slots=4, slots_per_model=given).slots_per_model == given
    assert backend().slots_per_model == "auto"


def test_a_model_has_no_more_slots_than_its_backend() -> None:
    with pytest.raises(ValidationError) as caught:
        backend(slots=4, slots_per_model=5)
    assert mistakes(caught.value) == ["slots_per_model is 5, but slots allows no more than 4 in all"]


def test_a_slot_is_reserved_for_no_shorter_time_at_most_than_at_least() -> None:
    for options in ({"grace": "20s"}, {"grace": "2s", "grace_at_most": "2s"}, {"grace": "0s", "grace_at_most": "0s"}):
        Pool.model_validate_json(json.dumps(options), strict=True)
    with pytest.raises(ValidationError) as caught:
        Pool.model_validate_json(json.dumps({"grace": "2s", "grace_at_most": "1s"}), strict=True)
    assert mistakes(caught.value) == ["grace_at_most is shorter than grace, which is 2s"]


@pytest.mark.parametrize(
    "options", [{"slots": 0}, {"slots": True}, {"slots_per_model": 0}, {"weight": 0}, {"weight": "2"}, {"weight": -1}]
)
def test_bounds(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        backend(**options)


def test_two_backends_cannot_have_one_name() -> None:
    one, two = backend(), backend(name="gpu-2")
    assert distinct((one, two)) == (one, two)
    with pytest.raises(Mistakes) as caught:
        distinct((one, two, backend(name="GPU-1"), one))
    assert [(path, mistake.message) for path, mistake in caught.value.found] == [
        ((2, "name"), "is the name of backends[0] already"),
        ((3, "name"), "is the name of backends[0] already"),
    ]


def test_the_keyword_for_is_spelled_as_in_english() -> None:
    pool = Pool.model_validate_json(json.dumps({"eject": {"for": "1m"}}), strict=True)
    assert pool.eject.for_ == 60.0
