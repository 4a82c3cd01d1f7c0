"""Draw the pictures of the pages, as SVG: the way of a request, what commands print, what the dashboard has.

Run it from the checkout: `python doc/pictures.py`. The commands are run, on files made here; nothing of this
host is in their output. Colours follow the reader's choice of light or dark.
"""

import html
import json
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "doc/source/pictures"
STYLE = """\
<style>
  text { font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1f2328; }
  .paper { fill: #ffffff; stroke: #8c959f; }
  .agent { fill: #fff1e5; stroke: #bc4c00; } .daemon { fill: #ddf4ff; stroke: #0969da; }
  .step { fill: #ffffff; stroke: #57606a; } .way { stroke: #57606a; stroke-width: 1.5; fill: none; }
  .bold { font-weight: bold; } .small { font-size: 12px; fill: #57606a; }
  .end { text-anchor: end; }
  .red { fill: #cf222e; } .yellow { fill: #9a6700; } .green { fill: #1a7f37; } .dim { fill: #57606a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .paper, .step { fill: #161b22; } .small, .dim { fill: #9198a1; }
    .agent { fill: #2d1f14; } .daemon { fill: #12263f; }
    .red { fill: #ff7b72; } .yellow { fill: #d29922; } .green { fill: #3fb950; }
  }
</style>
"""
#: What the daemon does with a request, in its order; and the part that is asked.
STEPS = (
    ("who asks?", "SO_PEERCRED: uid, gid, groups"),
    ("do the words match?", "filter files, word by word"),
    ("on which things?", "program, file, process: pinned"),
    ("record", "before anything starts"),
    ("run", "own identity, environment, limits"),
    ("record", "after the end, with its cause"),
)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" xml:space="preserve">{html.escape(text)}</text>'


def _box(x: int, y: int, width: int, height: int, kind: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" class="{kind}"/>'


def _arrow(points: str) -> str:
    return f'<path d="{points}" class="way" marker-end="url(#head)"/>'


def _picture(width: int, height: int, title: str, parts: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">\n<title>{html.escape(title)}</title>\n{STYLE}'
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#57606a"/></marker></defs>\n'
    )
    return head + "\n".join([_box(1, 1, width - 2, height - 2, "paper"), *parts]) + "\n</svg>\n"


def request() -> str:
    """Draw the way of a request: two processes, a socket between them, and the steps of the second."""
    top, step = 246, 44
    height = top + step * len(STEPS) + 18
    parts = [
        _box(16, 16, 480, 122, "agent"),
        _text(32, 42, "your service", "bold"),
        _text(480, 42, "no privilege, no_new_privs", "small end"),
        _text(32, 72, 'client.run(["ip", "netns", "add", "blue"])'),
        _text(32, 98, "threads, asyncio, eventlet, or a shell: rootwrap-exec", "small"),
        _text(32, 122, "gets CompletedCommand, or Denied, CommandTimeout, ...", "small"),
        _arrow("M150 138V194"),
        _text(162, 172, "Unix socket", "small"),
        _arrow("M340 196V140"),
        _text(352, 172, "answer or code", "small"),
        _box(16, 196, 480, height - 212, "daemon"),
        _text(32, 224, "rootwrap-daemon, as root", "bold"),
    ]
    for number, (what, how) in enumerate(STEPS):
        y = top + step * number - 8
        parts += [_box(32, y, 448, 32, "step"), _text(44, y + 21, what), _text(224, y + 21, how, "small")]
        if number:
            parts.append(_arrow(f"M120 {y - 12}V{y - 1}"))
    return _picture(512, height, "The way of a request", parts)


#: What is shown, with the files that it is shown with.
NARROW = "address: ArgvFilter, ip, root, -n, {netns}, address, {=add|delete}, {cidr}, dev, {ifname}\n"
FILTERS = """\
[Filters]
netns: IpFilter, ip, root
copy: CommandFilter, cp, root
"""
TESTS = """\
filters: [agent.filters]
tests:
  - {argv: [ip, -n, qdhcp-1, addr, add, 192.0.2.1/24, dev, tap1], expect: allow}
  - {argv: [ip, -n, qdhcp-2, addr, add, 192.0.2.9/24, dev, tap2], expect: allow}
  - {argv: [ip, -n, qdhcp-2, addr, add, 192.0.2.9/24, dev, lo], expect: allow}
"""
TERMINALS = {
    "check": "check agent.filters",
    "explain": "explain --filters narrow.filters ip -n blue address add 10.0.0.300/24 dev eth0",
    "suggest": "suggest --tests wanted.yaml",
}


def _kind(line: str) -> str:
    for sign, kind in (("error", "red"), ("warning", "yellow"), ("allowed", "green"), ("denied", "red")):
        if sign in line.partition("instead:")[0]:
            return kind
    return "dim" if line.startswith((" ", "#")) else ""


def _printed(command: str) -> list[str]:
    """A command and what it prints, in 100 columns. Raises CalledProcessError if it cannot be called."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "agent.filters").write_text(FILTERS)
        Path(directory, "narrow.filters").write_text("[Filters]\n" + NARROW)
        Path(directory, "wanted.yaml").write_text(TESTS)
        Path(directory).chmod(0o755)
        run = "from rootwrap_daemon.cli.ctl import main; raise SystemExit(main())"
        done = subprocess.run(
            [sys.executable, "-c", run, *command.split()],
            cwd=directory,
            env={
                "PYTHONPATH": str(ROOT),
                "LC_ALL": "C.UTF-8",
                "COLUMNS": "100",
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1):
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
    lines = [f"$ rootwrapctl {command}"]
    for line in done.stdout.rstrip().splitlines():
        # What goes on is indented; a line of words in columns is never that long.
        lines += textwrap.wrap(line, 100, subsequent_indent=" " * 8) if len(line) > 100 else [line]
    return lines


def _lines(lines: Sequence[str]) -> list[str]:
    kinds = ["bold"]
    for line in lines[1:]:
        kinds.append(kinds[-1] if line.startswith(" " * 8) and kinds[-1] == "dim" else _kind(line))
    return [
        _text(18, 34 + 20 * number, line, kind)
        for number, (line, kind) in enumerate(zip(lines, kinds, strict=True))
    ]


def _size(scenes: Sequence[Sequence[str]]) -> tuple[int, int]:
    return round(36 + 8.5 * max(map(len, chain(*scenes)))), 34 + 20 * max(map(len, scenes))


def terminal(command: str) -> str:
    """Draw a command and what it prints."""
    lines = _printed(command)
    return _picture(*_size([lines]), f"rootwrapctl {command}", _lines(lines))


#: Seconds for each command of the recording.
SCENE = 9


def recording() -> str:
    """Draw the commands one after the other, over and over; the first alone for who wants no motion."""
    scenes = [_printed(command) for command in TERMINALS.values()]
    whole = SCENE * len(scenes)
    turn, pause = f"{100 / len(scenes):.4g}%", f"{100 / whole:.4g}%"
    style = f"""\
<style>
  .scene {{ visibility: hidden; animation: scene {whole}s step-end infinite; }}
  .printed {{ animation: printed {whole}s step-end infinite; }}
  @keyframes scene {{ 0% {{ visibility: visible; }} {turn} {{ visibility: hidden; }} }}
  @keyframes printed {{ 0% {{ opacity: 0; }} {pause} {{ opacity: 1; }} }}
  @media (prefers-reduced-motion: reduce) {{
    .scene, .printed {{ animation: none; }} .first {{ visibility: visible; }}
  }}
</style>"""
    parts = [style]
    for number, scene in enumerate(scenes):
        asked, *printed = _lines(scene)
        delay = f'style="animation-delay: {SCENE * number}s"'
        parts.append(f'<g class="scene{" first" * (not number)}" {delay}>{asked}<g class="printed" {delay}>')
        parts += [*printed, "</g></g>"]
    return _picture(*_size(scenes), "rootwrapctl check, explain and suggest, one after the other", parts)


def dashboard() -> str:
    """Draw where the dashboard for Grafana has which panel, with the metrics that it shows."""
    board = json.loads((ROOT / "etc/rootwrap-daemon/monitoring/grafana-dashboard.json").read_text())
    parts = [_text(18, 34, board["title"], "bold")]
    height = 0
    for panel in board["panels"]:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        left, top = 12 + 36 * x, 48 + 14 * y
        parts += [
            _box(left, top, 36 * w - 8, 14 * h - 8, "step"),
            _text(left + 10, top + 22, panel["title"], "small bold"),
        ]
        for number, target in enumerate(panel["targets"]):
            metric = re.findall(r"rootwrap_daemon_(\w+)", target["expr"])[0]
            parts.append(_text(left + 10, top + 40 + 16 * number, metric, "small"))
        height = max(height, top + 14 * h)
    return _picture(880, height + 8, board["title"], parts)


def all_pictures() -> dict[str, str]:
    """Draw every picture, by its file name."""
    return {
        "request.svg": request(),
        "explain.svg": terminal(TERMINALS["explain"]),
        "recording.svg": recording(),
        "dashboard.svg": dashboard(),
    }


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name, text in all_pictures().items():
        (PICTURES / name).write_text(text)
