"""proxy/kernel/shared_numbers.py."""

import os

from proxy.kernel.shared_numbers import ABSENT, SharedNumbers, make_shared


def test_each_writes_its_row_and_reads_the_sum_of_the_others() -> None:
    fd = make_shared(3, 2)
    first, second, third = (SharedNumbers(fd, rows=3, columns=2, row=row) for row in range(3))
    os.close(fd)  # the memory stays
    assert first.others(0) == [ABSENT, ABSENT]
    assert first.elsewhere(0) == 0
    first.write(0, 0)
    second.write(0, 5)
    third.write(0, 0)
    third.add(0, 2)
    third.write(1, 9)
    assert (first.elsewhere(0), second.elsewhere(0), third.elsewhere(0)) == (7, 2, 5)
    assert first.others(0) == [5, 2]
    assert (second.elsewhere(1), third.elsewhere(1)) == (9, 0)


def test_the_row_of_one_that_is_gone_counts_no_more() -> None:
    first, second = (SharedNumbers(fd, rows=2, columns=2, row=row) for fd in [make_shared(2, 2)] for row in range(2))
    second.write(0, 5)
    second.write(1, 6)
    first.clear(1)
    assert (first.others(0), first.elsewhere(0), first.elsewhere(1)) == ([ABSENT], 0, 0)
    second.write(0, 0)
    assert first.others(0) == [0]
