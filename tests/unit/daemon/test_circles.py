"""No request leaves objects that hold each other, whose memory the collector would free at its time."""

import gc
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.daemon.serve.session import Session
from rootwrap_daemon.errors import Error
from tests.bench.bytecodes import Served

LINES = (
    "theirs: CommandFilter, {0}/theirs, root",
    "broken: CommandFilter, {0}/broken, root",
    "missing: CommandFilter, no-such-program, root",
    "sh: CommandFilter, sh, root",
    "kill: KillFilter, root, sleep, -9",
    "ls: ArgvFilter, ls, root, {{path={0}}}",
    "id: RegExpFilter, id, root, id, (a|b)+",
)
NOTHING = MappingProxyType[str, Any]({})
REQUESTS: list[tuple[list[str], MappingProxyType[str, Any]]] = [
    (["true"], NOTHING),
    (["no-filter"], NOTHING),
    (["{0}/theirs"], NOTHING),
    (["{0}/broken"], NOTHING),
    (["no-such-program"], NOTHING),
    (["kill", "-9", "999999999"], NOTHING),
    (["ls", "{0}/.."], NOTHING),
    (["id", "c"], NOTHING),
    (["true"], MappingProxyType({"env": {"LD_PRELOAD": "x"}})),
    (["sh", "-c", "sleep 9"], MappingProxyType({"timeout": 0.01})),
    (["sh", "-c", "head -c 30000000 /dev/zero"], NOTHING),
]
#: Requests of one connection; what that leaves at its end is less than one object each.
COUNT = 20


def left_by(served: Served, call: Callable[[Client], object]) -> int:
    """Objects that the collector finds after COUNT calls."""

    def work(client: Client) -> None:
        for number in range(2 * COUNT):
            if number == COUNT:
                gc.collect()
            try:
                call(client)
            except Error:
                pass

    gc.disable()
    try:
        served.call(work, Session.serve)
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize(("argv", "options"), REQUESTS, ids=lambda one: str(one)[:40])
def test_of_requests(tmp_path: Path, argv: list[str], options: dict[str, Any]) -> None:
    # The first may be written by anybody, the second cannot be executed.
    for name, text, mode in (("theirs", "#!/bin/sh\n", 0o757), ("broken", "#!/no/such/interpreter\n", 0o755)):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
    served = Served(tmp_path, *(line.format(tmp_path) for line in LINES))
    words = [word.format(tmp_path) for word in argv]
    assert left_by(served, lambda client: client.run(words, **options)) < 3 * COUNT
