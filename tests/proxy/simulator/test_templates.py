import pytest

from proxy.simulator.settings import TEMPLATE
from proxy.simulator.templates import parse_error
from proxy.simulator.tiny_models import TINY_MODELS


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("", None),
        ("no action }}", None),
        ("{{ .Prompt }}", None),
        ("{{- if .A }}{{ else }}{{ end -}}", None),
        ("{{/* if this ended }} */}}{{ .Prompt }}", None),
        ("{{ .Prompt", "template: :1: unclosed action"),
        ("\n{{ .Prompt", "template: :2: unclosed action"),
        ("{{ if .A }}", "template: :1: unexpected EOF"),
        ("{{ range .A }}{{ if .B }}{{ end }}", "template: :1: unexpected EOF"),
        ("a\n{{ end }}", "template: :2: unexpected {{end}}"),
    ],
)
def test_what_does_not_parse(template: str, error: str | None) -> None:
    assert parse_error(template) == error


def test_the_templates_of_the_models_parse() -> None:
    assert [parse_error(text) for text in (TEMPLATE, *(model.template for model in TINY_MODELS))] == [None] * 5
