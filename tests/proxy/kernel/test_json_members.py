"""proxy/kernel/json_members.py."""

from proxy.kernel.json_members import elements_of, members_of, on_one_line


def test_members_are_as_they_are_written() -> None:
    text = b' {"a" : 1e3, "b\\u0020": {"x": "}\\"{" , "y":[1 ,2]}, "a": 1.50}'
    assert members_of(text) == {"a": b"1.50", "b ": b'{"x": "}\\"{" , "y":[1 ,2]}'}


def test_elements_are_as_they_are_written() -> None:
    assert elements_of(b'[ {"a": [1]}, "x,]", 1.0 ]') == [b'{"a": [1]}', b'"x,]"', b"1.0"]
    assert elements_of(b"[]") == []


def test_line_breaks_stand_only_between_parts() -> None:
    assert on_one_line(b'{"a":\r\n "b\\n"}\n') == b'{"a":   "b\\n"}'
    assert on_one_line(b'{"a":1}') == b'{"a":1}'
