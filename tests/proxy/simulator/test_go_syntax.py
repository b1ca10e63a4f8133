import json

import pytest

from proxy.simulator import go_json
from proxy.simulator.go_syntax import syntax_error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("not json", "invalid character 'o' in literal null (expecting 'u')"),
        ('{"model": tiny}', "invalid character 'i' in literal true (expecting 'r')"),
        ('{"raw": False}', "invalid character 'F' looking for beginning of value"),
        ('{"raw": fals}', "invalid character '}' in literal false (expecting 'e')"),
        ('{"raw": tru', "unexpected EOF"),
        ("{'model': 1}", "invalid character '\\'' looking for beginning of object key string"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":[1] "b":2}', "invalid character '\"' after object key:value pair"),
        ('{"a":["}" 1]}', "invalid character '1' after array element"),
        ('{"a":[1,]}', "invalid character ']' looking for beginning of value"),
        ('{"a":}', "invalid character '}' looking for beginning of value"),
        ('{"a":1.}', "invalid character '}' after decimal point in numeric literal"),
        ('{"a":01}', "invalid character '1' after object key:value pair"),
        ('{"a":-x}', "invalid character 'x' in numeric literal"),
        ('{"a":-', "unexpected EOF"),
        ('{"a":-Infinity}', "invalid character 'I' in numeric literal"),
        ('{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        ('{"a":"b\nc"}', "invalid character '\\n' in string literal"),
        (r'{"a":"\x"}', "invalid character 'x' in string escape code"),
        (r'{"a":"\u00zz"}', r"invalid character 'z' in \u hexadecimal character escape"),
        ('{"a":1', "unexpected EOF"),
        ('{"a":"b', "unexpected EOF"),
        ("{", "unexpected EOF"),
        ("\ufeff{}", "invalid character 'ï' looking for beginning of value"),
    ],
)
def test_what_is_wrong(text: str, error: str) -> None:
    with pytest.raises(go_json.BadJSON) as caught:
        go_json.parse(text.encode())
    assert str(caught.value) == error


def test_an_end_too_early_is_that_whatever_else_is_wrong() -> None:
    assert syntax_error("[1", json.JSONDecodeError("Expecting ',' delimiter", "[1", 2)) == "unexpected EOF"
