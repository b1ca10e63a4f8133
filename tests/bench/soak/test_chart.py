"""The picture is SVG that says what it shows."""

import xml.etree.ElementTree as ElementTree

from bench.soak.chart import chart


def test_each_number_has_its_line() -> None:
    picture = chart({"memory": [(0.0, 1.0), (60.0, 2.0)], "a<b": [(0.0, 0.0)], "none": []}, quiet=[(10.0, 20.0)])
    root = ElementTree.fromstring(picture)
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f".//{space}polyline")) == 3
    assert [text.text for text in root.findall(f".//{space}text[@class='name']")] == ["memory", "a<b", "none"]
    assert root.findall(f".//{space}rect[@class='quiet']")
    points = root.findall(f".//{space}polyline")[0].get("points", "").split()
    (left, low), (right, high) = (tuple(map(float, point.split(","))) for point in points)
    assert left < right
    assert low > high  # y grows downward
