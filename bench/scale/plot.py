"""Plots as SVG, written by hand: CPU of a message as rows grow, and as nodes grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.scale.fill import short

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 60, 50, 40
COLOURS = ("#1f6f8b", "#c05621", "#4a7c2f")


def chart(title: str, x: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], unit: str) -> str:
    """A line for each series over equally spaced labels; the vertical axis begins at 0."""
    most = max((value for values in series.values() for value in values), default=1.0) * 1.15 or 1.0
    step = (WIDTH - LEFT - 30) / max(1, len(labels) - 1)

    def at(index: int, value: float) -> tuple[float, float]:
        return LEFT + index * step, HEIGHT - BOTTOM - value / most * (HEIGHT - BOTTOM - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><text x="{LEFT}" y="18" font-size="14">{title}</text>',
    ]
    for n in range(5):
        value = most * n / 4
        _, y = at(0, value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 30}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for n, label in enumerate(labels):
        parts.append(f'<text x="{at(n, 0)[0]:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{x}</text>')
    parts.append(
        f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2})">{unit}</text>'
    )
    for n, (name, values) in enumerate(series.items()):
        colour = COLOURS[n % len(COLOURS)]
        points = [at(i, value) for i, value in enumerate(values)]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
        parts.append(f'<text x="{LEFT + 8 + n * 180}" y="{TOP - 6}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def total(one: Mapping[str, Any]) -> float:
    return float(one["whole_cpu_ms"] + one["whole_store_cpu_ms"])


def write(found: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """`cost-by-rows.svg` and `cost-by-nodes.svg`, of what `growth` measured."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    by_rows = [one for one in found if one["mb"]]
    if by_rows:
        olds = sorted({one["old"] for one in by_rows})
        series = {
            kind: [total(one) for one in sorted(by_rows, key=lambda one: one["old"]) if one["store"] == kind]
            for kind in dict.fromkeys(one["store"] for one in by_rows)
        }
        path = folder / "cost-by-rows.svg"
        text = chart("CPU of a message, engine and store", "old messages", [short(old) for old in olds], series, "ms")
        path.write_text(text, encoding="utf-8")
        written.append(path)
    by_nodes = sorted((one for one in found if not one["mb"]), key=lambda one: one["nodes"])
    if by_nodes:
        path = folder / "cost-by-nodes.svg"
        series = {
            "engines": [one["whole_cpu_ms"] for one in by_nodes],
            "PostgreSQL": [one["whole_store_cpu_ms"] for one in by_nodes],
        }
        text = chart("CPU of a message on PostgreSQL", "nodes", [str(one["nodes"]) for one in by_nodes], series, "ms")
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
