"""Draw the pictures of the pages, as SVG: the way of a request, and what three commands print.

Run it from the checkout: `python doc/pictures.py`. The commands are run, on files made here; nothing of this
host is in their output. Colours are readable on white and on black.
"""

import html
import subprocess
import sys
import tempfile
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
  .red { fill: #cf222e; } .yellow { fill: #9a6700; } .green { fill: #1a7f37; } .dim { fill: #57606a; }
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
    top, step = 56, 46
    height = top + step * len(STEPS) + 22
    parts = [
        _box(16, 16, 250, height - 32, "agent"),
        _text(32, 40, "your service", "bold"),
        _text(32, 60, "no privilege, no_new_privs", "small"),
        _text(32, 92, 'client.run(["ip", "netns",'),
        _text(32, 110, '  "add", "blue"])'),
        _text(32, 152, "threads, asyncio, eventlet,", "small"),
        _text(32, 168, "or a shell: rootwrap-exec", "small"),
        _text(32, height - 84, "CompletedCommand"),
        _text(32, height - 64, "or Denied, CommandTimeout,", "small"),
        _text(32, height - 48, "OutcomeUnknown, ...", "small"),
        _box(404, 16, 480, height - 32, "daemon"),
        _text(420, 40, "rootwrap-daemon, as root", "bold"),
        _text(281, 78, "Unix socket", "small"),
        _text(277, height - 86, "answer or code", "small"),
        _arrow("M266 92H402"),
        _arrow(f"M402 {height - 72}H268"),
    ]
    for number, (what, how) in enumerate(STEPS):
        y = top + step * number
        parts += [_box(420, y, 448, 34, "step"), _text(432, y + 22, what), _text(612, y + 22, how, "small")]
        if number:
            parts.append(_arrow(f"M510 {y - 12}V{y - 1}"))
    return _picture(900, height, "The way of a request", parts)


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


def terminal(command: str) -> str:
    """Draw a command and what it prints. Raises CalledProcessError if it cannot be called."""
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
    lines = [f"$ rootwrapctl {command}", *done.stdout.rstrip().splitlines()]
    parts = [
        _text(18, 34 + 20 * number, line, _kind(line) if number else "bold")
        for number, line in enumerate(lines)
    ]
    width = 36 + 8.5 * max(map(len, lines))
    return _picture(round(width), 34 + 20 * len(lines), f"rootwrapctl {command}", parts)


def all_pictures() -> dict[str, str]:
    """Draw every picture, by its file name."""
    return {
        "request.svg": request(),
        **{f"{name}.svg": terminal(command) for name, command in TERMINALS.items()},
    }


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name, text in all_pictures().items():
        (PICTURES / name).write_text(text)
