from hypothesis import given
from hypothesis import strategies as st

from config.tree import Data, Node, scalar

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_a_tree_gives_back_what_it_was_made_of(data: Data) -> None:
    assert Node.of(data).data() == data
    assert Node.of(data).shown() == data


def test_prints_show_what_was_written_in_place_of_what_was_resolved() -> None:
    root = Node.of({"a": ["x", "y"]})
    inner = root.at(("a", 1))
    inner.value, inner.text, inner.resolved = "s3cret", "${Y}", True
    assert root.data() == {"a": ["x", "s3cret"]}
    assert root.shown() == {"a": ["x", "${Y}"]}


def test_a_path_leads_as_far_as_there_is_something() -> None:
    root = Node.of({"a": [{"b": 1}]})
    assert root.at(("a", 0, "b")).value == 1
    assert root.at(("a", 0, "c", "d")).data() == {"b": 1}
    assert root.at(("a", 5)).data() == [{"b": 1}]
    assert root.at(("a", "0")).data() == [{"b": 1}]
    assert root.step(0) is None


def test_size_and_height_count_shared_parts_in_full() -> None:
    shared = Node(None)
    shared.fill([Node(1), Node(2)])
    root = Node(None)
    root.fill({"a": shared, "b": shared})
    assert (root.size, root.height) == (7, 3)


def test_a_child_can_be_put_in_place_of_another() -> None:
    root = Node.of({"a": 1, "b": 2})
    assert root.with_child("a", Node.of([3])).data() == {"a": [3], "b": 2}
    assert root.data() == {"a": 1, "b": 2}


@given(st.integers(min_value=-(10**40), max_value=10**40))
def test_whole_numbers_are_read_as_such(number: int) -> None:
    assert scalar(str(number)) == number
    assert type(scalar(str(number))) is int
