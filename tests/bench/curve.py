"""Draw what a daemon used during a soak as SVG: one curve each, from zero to the most that was seen."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH, HEIGHT, LEFT, TOP = 640, 120, 60, 28
COLOURS: Final = ("#1f6fb2", "#b2541f", "#3c8a3c", "#7a4fa3")


def curves(title: str, at: Sequence[int], values: Mapping[str, Sequence[int]]) -> str:
    """One picture. `at`: requests done at each look; `values`: name -> what was seen then."""
    most = max(at) or 1
    height = TOP + len(values) * (HEIGHT + TOP) + 20
    box = f"0 0 {WIDTH + LEFT + 20} {height}"
    look = 'font-family="sans-serif" font-size="12" fill="#777"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" {look}>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    top = TOP
    for colour, (name, seen) in zip(COLOURS, values.items(), strict=False):
        top += TOP
        high = max(*seen, 1)
        points = " ".join(
            f"{LEFT + WIDTH * done / most:.1f},{top + HEIGHT * (1 - value / high):.1f}"
            for done, value in zip(at, seen, strict=True)
        )
        parts += [
            f'<text x="{LEFT}" y="{top - 6}">{escape(name)}</text>',
            f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{high}</text>',
            f'<text x="{LEFT - 6}" y="{top + HEIGHT}" text-anchor="end">0</text>',
            f'<path d="M{LEFT} {top}V{top + HEIGHT}H{LEFT + WIDTH}" fill="none" stroke="#999"/>',
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
        ]
        top += HEIGHT
    parts.append(f'<text x="{LEFT + WIDTH}" y="{top + 16}" text-anchor="end">{most} requests</text></svg>')
    return "\n".join(parts) + "\n"
