"""The plots of the page, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape

_FORM = 'font-family="sans-serif" font-size="12"'
#: Where people with and without colour vision can tell lines apart.
_COLORS = {"dockreg": "#3a7d44", "distribution": "#b3402e"}
_DASHES = ("none", "6 3", "2 3", "8 2 2 2")


def bars(title: str, ratios: Sequence[tuple[str, float]]) -> str:
    """Return one bar for each ratio; those under 1 have another colour."""
    height = 24 * len(ratios) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="880" height="{height}" {_FORM}>',
        f'<text x="10" y="18">{escape(title)}</text>',
    ]
    most = max([found for _, found in ratios] + [1.0])
    for number, (name, found) in enumerate(ratios):
        y = 30 + 24 * number
        width = max(1.0, 380 * found / most)
        color = "#3a7d44" if found >= 1 else "#b3402e"
        lines += [
            f'<text x="400" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="410" y="{y}" width="{width:.1f}" height="18" fill="{color}"/>',
            f'<text x="{416 + width:.1f}" y="{y + 14}">{found:.1f}×</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def growth(title: str, lines_by_server: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> str:
    """Return cost against size, both on scales of tenfolds; a line for each server and row.

    Args:
        title: what stands above.
        lines_by_server: by server and row, the cost in µs at each size.
    """
    points = [
        point
        for by_row in lines_by_server.values()
        for line in by_row.values()
        for point in line
        if point[1] > 0
    ]
    if not points:
        return ""
    least, most = (log10(choose(cost for _, cost in points)) for choose in (min, max))
    first, last = (log10(choose(size for size, _ in points)) for choose in (min, max))

    def place(size: int, cost: float) -> tuple[float, float]:
        x = 60 + 440 * (log10(size) - first) / max(last - first, 0.1)
        return x, 330 - 290 * (log10(max(cost, 1e-3)) - least) / max(most - least, 0.1)

    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="820" height="370" {_FORM}>',
        f'<text x="10" y="18">{escape(title)}</text>',
        '<path d="M60 40V330H500" fill="none" stroke="#888"/>',
    ]
    found += [
        f'<text x="{place(size, 1)[0]:.0f}" y="350" text-anchor="middle">{size:,}</text>'
        for size in sorted({size for size, _ in points})
    ]
    found += [
        f'<text x="55" y="{place(10, cost)[1] + 4:.0f}" text-anchor="end">{cost:,} µs</text>'
        for cost in (10**power for power in range(ceil(least), floor(most) + 1))
    ]
    number = 0
    for server, by_row in lines_by_server.items():
        for index, (row, line) in enumerate(by_row.items()):
            dash, color = _DASHES[index % len(_DASHES)], _COLORS.get(server, "#555")
            places = [place(*point) for point in line if point[1] > 0]
            path = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
            style = f'fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"'
            y = 50 + 20 * number
            found += [
                f'<polyline points="{path}" {style}/>',
                f'<path d="M520 {y}H550" {style}/>',
                f'<text x="556" y="{y + 4}">{escape(f"{server}: {row}")}</text>',
            ]
            number += 1
    return "\n".join([*found, "</svg>", ""])
