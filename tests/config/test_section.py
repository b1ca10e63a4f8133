import pytest
from pydantic import TypeAdapter, ValidationError

from config.section import Model, Name, as_tuple, check_name
from proxy.kernel.units import Mistake


class Section(Model):
    name: str = "x"
    password: str = "s3cret"
    """What the documentation says."""


def test_no_value_is_in_any_print() -> None:
    assert (repr(Section()), str(Section()), f"{[Section(name='a')]}") == (
        "<Section x>",
        "<Section x>",
        "[<Section a>]",
    )


def test_a_section_is_strict_and_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Section.model_validate({"nmae": "x"})
    with pytest.raises(ValidationError):
        Section.model_validate({"name": 5})
    with pytest.raises(ValidationError):
        setattr(Section(), "name", "y")  # noqa: B010 (the checker of types would refuse it as well)


def test_docstrings_below_fields_are_their_descriptions() -> None:
    assert Section.model_fields["password"].description == "What the documentation says."


def test_one_value_may_stand_for_several() -> None:
    assert as_tuple("a") == ("a",)
    assert as_tuple(["a", "b"]) == ("a", "b")
    assert as_tuple([]) == ()


@pytest.mark.parametrize("name", ["a", "gpu-1", "a.b_c", "0", "x" * 63])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "ä", "x" * 64, "a\n", "..", "{a}"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(Mistake, match="expected a name"):
        check_name(name)


def test_editors_know_the_pattern_of_names() -> None:
    assert "pattern" in TypeAdapter(Name).json_schema()
