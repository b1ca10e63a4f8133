"""proxy/telemetry/exposition.py."""

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry.exposition import Moment, Point
from proxy.telemetry.metric_table import Meter

COUNTER = Meter("things_total", "counter", "Things.", ("class",))
GAUGE = Meter("now", "gauge", "Now.")
HISTOGRAM = Meter("seconds", "histogram", "S.", ("model",), (0.5, 1.0))


def test_what_prometheus_reads() -> None:
    moment = Moment(
        [
            (COUNTER, lambda: [(("read",), 3), (("manage",), 0)]),
            (GAUGE, lambda: [((), 1.5)]),
            (HISTOGRAM, lambda: [(("m",), ((1, 2, 4), 9.25))]),
        ]
    )
    assert generate_latest(moment).decode().splitlines() == [
        "# HELP things_total Things.",
        "# TYPE things_total counter",
        'things_total{class="read"} 3.0',
        'things_total{class="manage"} 0.0',
        "# HELP now Now.",
        "# TYPE now gauge",
        "now 1.5",
        "# HELP seconds S.",
        "# TYPE seconds histogram",
        'seconds_bucket{le="0.5",model="m"} 1.0',
        'seconds_bucket{le="1.0",model="m"} 3.0',
        'seconds_bucket{le="+Inf",model="m"} 7.0',
        'seconds_count{model="m"} 7.0',
        'seconds_sum{model="m"} 9.25',
    ]


def test_it_is_read_once_and_then() -> None:
    points: list[Point] = [(("read",), 1)]
    moment = Moment([(COUNTER, lambda: points)])
    points.append((("manage",), 1))
    for _ in range(2):
        (family,) = moment.collect()
        assert [sample.labels for sample in family.samples] == [{"class": "read"}]


def test_whatever_is_in_a_label_it_stays_one_line() -> None:
    nasty = 'a"\n\\\r\x1b\u2028b'
    text = generate_latest(Moment([(COUNTER, lambda: [((nasty,), 1)])])).decode()
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"class": nasty}
