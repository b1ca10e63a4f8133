"""A picture of a soak: one small chart for each number, over time, as SVG."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 360
HEIGHT: Final = 130
COLUMNS: Final = 3
LEFT: Final = 58
TOP: Final = 26
PLOT_WIDTH: Final = WIDTH - LEFT - 14
PLOT_HEIGHT: Final = HEIGHT - TOP - 24
STYLE: Final = (
    "text{font:11px system-ui,sans-serif;fill:#444}.name{font-weight:600;fill:#111}"
    ".line{fill:none;stroke:#1b6ca8;stroke-width:1.5}.grid{stroke:#ddd}.quiet{fill:#f0f3f6}"
)


def chart(series: Mapping[str, Sequence[tuple[float, float]]], quiet: Sequence[tuple[float, float]] = ()) -> str:
    """Return the picture.

    Args:
        series: points of seconds and value, by the name of the number.
        quiet: from when to when the clients paused; shaded.
    """
    end = max((points[-1][0] for points in series.values() if points), default=1.0) or 1.0
    count = -(-len(series) // COLUMNS)
    size = f'width="{COLUMNS * WIDTH}" height="{count * HEIGHT}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style><rect {size} fill="#fff"/>']
    for index, (name, points) in enumerate(series.items()):
        column, row = index % COLUMNS, index // COLUMNS
        parts.append(f'<g transform="translate({column * WIDTH} {row * HEIGHT})">{_one(name, points, end, quiet)}</g>')
    return "".join([*parts, "</svg>\n"])


def _one(name: str, points: Sequence[tuple[float, float]], end: float, quiet: Sequence[tuple[float, float]]) -> str:
    most = max((value for _, value in points), default=0.0) * 1.05 or 1.0

    def x(at: float) -> float:
        return LEFT + PLOT_WIDTH * at / end

    def y(value: float) -> float:
        return TOP + PLOT_HEIGHT * (1 - value / most)

    shades = "".join(
        f'<rect class="quiet" x="{x(begin):.1f}" y="{TOP}" width="{x(until) - x(begin):.1f}" height="{PLOT_HEIGHT}"/>'
        for begin, until in quiet
    )
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{LEFT + PLOT_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        f'<text x="{LEFT - 4}" y="{y(value) + 4:.1f}" text-anchor="end">{_short(value, name)}</text>'
        for value in (0.0, most / 2, most)
    )
    line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
    times = "".join(
        f'<text x="{x(at):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{at / 60:.1f} min</text>'
        for at, anchor in ((0.0, "start"), (end, "end"))
    )
    title = f'<text class="name" x="{LEFT}" y="16">{escape(name)}</text>'
    return f'{title}{shades}{grid}<polyline class="line" points="{line}"/>{times}'


def _short(value: float, name: str) -> str:
    if name in ("memory", "body bytes"):
        return f"{value / 2**20:.0f} MiB"
    return f"{value:.3g}"
