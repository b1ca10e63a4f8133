"""proxy/reference/errors.py; tests/proxy/kernel/test_error_codes.py compares the page with the table."""

import re

from proxy.kernel.error_codes import TABLE
from proxy.reference.errors import errors_page


def test_each_row_has_five_columns() -> None:
    rows = re.findall(r"^\| `\w+` \|.*$", errors_page(), re.MULTILINE)
    assert len(rows) == len(TABLE)
    assert all(row.count("|") == 6 for row in rows)
    assert "| `bad_host` | 400, 403 | server, ops | 400: the Host field" in errors_page()
