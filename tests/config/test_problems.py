from config.problems import Invalid, Mistakes, Path, Problem, in_order, show_path
from proxy.kernel.units import Mistake


def at(line: int, column: int, message: str = "m", path: Path = (), hint: str | None = None) -> Problem:
    return Problem("proxy.yaml", line, column, path, message, hint)


def test_a_problem_reads_as_compilers_write_them() -> None:
    path = ("middleware", 4, "rate_limit", "requests")
    problem = at(12, 7, "expected a rate like 60/minute, got '60 per minute'", path, "write 60/minute")
    assert str(problem) == (
        "proxy.yaml:12:7: middleware[4].rate_limit.requests: "
        "expected a rate like 60/minute, got '60 per minute' (write 60/minute)"
    )
    assert str(at(0, 0, "cannot be read")) == "proxy.yaml: cannot be read"


def test_a_path_that_is_no_plain_name_is_quoted() -> None:
    assert show_path(("headers", "X-Token", "a.b", 0, "")) == "headers.X-Token['a.b'][0]['']"
    assert show_path((0, "a")) == "[0].a"


def test_problems_stand_in_the_order_of_the_file_each_once() -> None:
    first, second, third = at(1, 9), at(2, 1), at(10, 1)
    assert in_order([third, second, first, second]) == (first, second, third)
    error = Invalid([third, first])
    assert error.problems == (first, third)
    assert str(error) == f"{first}\n{third}"


def test_several_mistakes_are_one_error() -> None:
    assert str(Mistakes([(("a",), Mistake("one")), ((), Mistake("two"))])) == "one; two"
