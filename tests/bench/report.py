"""Show figures of a benchmark: as a table, as JSON, and as a plot in SVG."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one way. `ratio`: to the first row of its table."""

    name: str
    #: Of all calls, or turns, the median and the quartiles around it, in the table's unit.
    median: float
    low: float
    high: float
    ratio: float
    #: What else there is to say, in words.
    more: str = ""


@dataclass(slots=True)
class Table:
    """`unit`: of its rows. `less`: true if less is better."""

    title: str
    unit: str
    less: bool
    rows: list[Row] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, values: Sequence[float], more: str = "") -> None:
        low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
        base = self.rows[0].median if self.rows else median
        self.rows.append(Row(name, median, low, high, median / base, more))

    def text(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [f"{self.title} ({self.unit}; {'less' if self.less else 'more'} is better)"]
        lines += [
            f"  {row.name:{width}} {row.median:10.3f} [{row.low:.3f} .. {row.high:.3f}] x{row.ratio:5.2f}"
            f"{'  ' + row.more if row.more else ''}"
            for row in self.rows
        ]
        lines += [f"  {name:{width}} left out: {why}" for name, why in self.absent.items()]
        return "\n".join(lines)


def as_json(machine: dict[str, str], tables: Sequence[Table]) -> dict[str, Any]:
    return {"machine": machine, "tables": [asdict(table) for table in tables]}


_BAR, _LEFT, _WIDTH, _SCALE = 16, 260, 720, 90


def as_svg(machine: dict[str, str], tables: Sequence[Table]) -> str:
    """Bars of the ratios, with the quartiles as lines; a ratio past the edge ends in its number."""
    most = (_WIDTH - _LEFT - 60) / _SCALE
    y, parts = 24, [_text(8, 18, ", ".join(machine.values()), "small")]
    for table in tables:
        y += 34
        hint = "less is better" if table.less else "more is better"
        parts.append(_text(8, y, f"{table.title}, x {table.rows[0].name} ({hint})", "title"))
        for row in table.rows:
            y += _BAR + 4
            length = min(row.ratio, most) * _SCALE
            base = row.median / row.ratio
            low, high = (min(value / base, most) * _SCALE for value in (row.low, row.high))
            middle = y - 5
            parts.append(_text(_LEFT - 8, y, row.name, "name"))
            parts.append(
                f'<rect x="{_LEFT}" y="{y - 13}" width="{length:.1f}" height="{_BAR - 2}" class="bar"/>'
                f'<path d="M{_LEFT + low:.1f} {middle}H{_LEFT + high:.1f}" class="spread"/>'
            )
            parts.append(_text(_LEFT + length + 6, y, f"{row.ratio:.2f}", "value"))
    style = (
        "text{font:12px sans-serif;fill:#777}.title{font-weight:bold}.name{text-anchor:end}"
        ".bar{fill:#7aa6c2}.spread{stroke:#777;stroke-width:2}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 20}" role="img">'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'
