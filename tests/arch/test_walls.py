"""Walls that a look at the source can hold, each broken once on purpose to see it noticed.

What is privileged: the packages that the daemon loads. An exception stands in a table, with its reason.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

PACKAGE = Path(__file__).parents[2] / "rootwrap_daemon"

#: Folders and modules that run with privilege.
PRIVILEGED: Final = tuple(
    "daemon policy filters protocol config config_options settings errors escape".split()
)

#: Which functions may create or replace a process, and with what.
SPAWNS: Final = {
    ("daemon/run/spawn.py", "_start", "subprocess.Popen"),  # a command
    ("daemon/run/posix_spawn.py", "__init__", "libc.posix_spawn"),  # a command
    ("daemon/serve/reload.py", "_run", "os.posix_spawn"),  # what reads the configuration anew
    ("daemon/main.py", "_go_on", "os.execve"),  # from start to serve, the same process
    ("daemon/start/bootstrap.py", "console", "os.execv"),  # `python3 -I` of its own
}
#: Which functions turn the text of a filter file into filters.
READS_FILTERS: Final = {("policy/read/files.py", "_load_file", "filter_file.read")}
#: Handlers of any exception that neither record nor raise.
SILENT: Final = {
    ("protocol/codec.py", "decode"),  # the plain way says what is wrong
    ("protocol/client_side.py", "decode_answer"),  # the same
    ("openstack/hub.py", "work"),  # handed to the caller, whatever it is
}
#: Calls under a lock that could wait, and why they do not wait for a client.
WAITS_UNDER_LOCK: Final = {
    # Its descriptor is O_NONBLOCK; what it waits for is a disk.
    ("daemon/record/sinks.py", "_write", "os.write"),
    # Of logging's handler, around one assignment.
    ("daemon/record/log.py", "take_lost", "acquire"),
    # No session takes this lock: one reload at a time.
    ("daemon/serve/main.py", "_load", "notify"),
}
#: Where the time of day is asked for: stamps alone. Whoever sets the clock moves no deadline.
TIME_OF_DAY: Final = {
    ("daemon/record/audit.py", "stamp", "time.time"),
    ("daemon/serve/main.py", "_load", "time.time"),
    ("daemon/serve/main.py", "_keep", "time.time"),
    ("daemon/serve/status.py", "report", "time.time"),
    ("policy/read/policy.py", "load", "time.time"),
}
#: Names of calls that may wait for somebody else.
WAITING: Final = frozenset(
    "accept answer connect flush listen notify poll put read readline readlines receive recv recv_fds "
    "recvfrom recvmsg select send send_fds sendall sendmsg sendto sleep turn_away wait waitid waitpid write "
    "writev close_range flock lockf".split()
)
SPAWNING: Final = frozenset(
    "fork forkpty posix_spawn posix_spawnp system popen Popen execv execve execvp execvpe execl execle "
    "execlp execlpe spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe fexecve vfork clone "
    "clone3 check_call check_output getoutput getstatusoutput".split()
)

Sites = Iterator[tuple[str, ...]]


def name_of(node: ast.AST) -> str:
    """Return a dotted name, as far as it is one: `self.a.b` is `a.b`."""
    if isinstance(node, ast.Attribute):
        before = name_of(node.value)
        return f"{before}.{node.attr}" if before not in ("", "self", "cls") else node.attr
    if isinstance(node, ast.Call):
        return name_of(node.func)
    return node.id if isinstance(node, ast.Name) else ""


def functions(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every node, with the name of the innermost function that it is in."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            yield inside, child
            own = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from walk(child, child.name if own else inside)  # type: ignore[attr-defined]

    yield from walk(tree, "")


def spawns(tree: ast.AST) -> Sites:
    """Yield where a process is created or replaced; an alias of such a function, too."""
    for function, node in functions(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = name_of(node)
            owner, _, last = name.rpartition(".")
            if last in SPAWNING and owner in ("os", "subprocess", "libc", "_libc", "pty"):
                yield function, name
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "subprocess", "pty", "posix"):
            yield from ((function, f"{node.module}.{one.name}") for one in node.names if one.name in SPAWNING)


def reads_filters(tree: ast.AST) -> Sites:
    """Yield where text becomes filters."""
    for function, node in functions(tree):
        if isinstance(node, ast.Call) and name_of(node.func).endswith("filter_file.read"):
            yield function, name_of(node.func)


def time_of_day(tree: ast.AST) -> Sites:
    """Yield where the clock is asked for that somebody may set; an alias of such a function, too."""
    for function, node in functions(tree):
        name = name_of(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        if name.endswith("CLOCK_REALTIME") or name in (
            "time.time",
            "time.time_ns",
            "datetime.now",
            "datetime.utcnow",
            "datetime.today",
        ):
            yield function, name
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from ((function, f"time.{one.name}") for one in node.names if one.name.startswith("time"))


def _is_any(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(one is None or name_of(one) in ("Exception", "BaseException") for one in kinds)


def _says(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) or (
        isinstance(node, ast.Call) and name_of(node.func) in ("LOG.error", "LOG.exception", "LOG.critical")
    )


def silent_handlers(tree: ast.AST) -> Sites:
    """Yield where any exception is caught and neither logged nor raised again."""
    for function, node in functions(tree):
        if isinstance(node, ast.ExceptHandler) and _is_any(node.type):
            if not any(_says(one) for statement in node.body for one in ast.walk(statement)):
                yield (function,)
        elif (
            isinstance(node, ast.Call)
            and name_of(node.func).endswith("suppress")
            and any(_is_any(one) for one in node.args)
        ):
            yield (function,)


def waits_under_lock(tree: ast.AST) -> Sites:
    """Yield calls that may wait in the body of a `with` over a lock, in methods called there, too."""
    bodies = {
        node.name: node
        for _, node in functions(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    def calls(nodes: list[ast.stmt], function: str, seen: set[str]) -> Sites:
        for node in (one for statement in nodes for one in ast.walk(statement)):
            if isinstance(node, ast.Call):
                name = name_of(node.func)
                last = name.rpartition(".")[2]
                if last in WAITING:
                    yield function, name.removeprefix("_manager.")
                elif name in bodies and name not in seen:
                    yield from calls(bodies[name].body, name, seen | {name})

    for function, node in functions(tree):
        if isinstance(node, ast.Call) and name_of(node.func).endswith("acquire"):
            # No `with` shows how far it reaches.
            yield function, name_of(node.func)
        if isinstance(node, ast.With | ast.AsyncWith) and any(
            any(word in name_of(item.context_expr).lower() for word in ("lock", "reloading"))
            for item in node.items
        ):
            yield from calls(node.body, function, {function})


#: What each wall finds, in which part of the program, and what it may find there.
WALLS: Final[dict[str, tuple[Callable[[ast.AST], Sites], tuple[str, ...], set[tuple[str, ...]]]]] = {
    "spawns": (spawns, PRIVILEGED, set(SPAWNS)),
    "reads filters": (reads_filters, PRIVILEGED, set(READS_FILTERS)),
    "silent handlers": (silent_handlers, ("",), set(SILENT)),
    "waits under a lock": (waits_under_lock, PRIVILEGED, set(WAITS_UNDER_LOCK)),
    "time of day": (time_of_day, (*PRIVILEGED, "client"), set(TIME_OF_DAY)),
}


def modules(parts: tuple[str, ...]) -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if not parts[0] or name.partition("/")[0].removesuffix(".py") in parts:
            yield name, ast.parse(path.read_text())


@pytest.mark.parametrize("wall", WALLS)
def test_it_stands(wall: str) -> None:
    look, parts, allowed = WALLS[wall]
    found = {(module, *site) for module, tree in modules(parts) for site in look(tree)}
    assert found == allowed, "what is not allowed, or what the table names for nothing"


#: Code that breaks a wall, each in another way.
BREACHES: Final = {
    "spawns": (
        "def f():\n    os.fork()",
        "def f():\n    run = subprocess.Popen\n    run(['x'])",
        "from os import execve",
        "def f():\n    _libc.vfork()",
        "class A:\n    def f(self):\n        os.system('x')",
    ),
    "reads filters": ("def f():\n    filter_file.read('', '')",),
    "silent handlers": (
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept:\n    x = 1",
        "try:\n    f()\nexcept (OSError, BaseException) as error:\n    LOG.debug('x')",
        "with contextlib.suppress(Exception):\n    f()",
    ),
    "waits under a lock": (
        "def f(self):\n    with self._lock:\n        self.sock.sendall(b'x')",
        "def f(self):\n    with self._lock, other:\n        if x:\n            os.read(1, 2)",
        "def g(self):\n    self.sock.recv(1)\ndef f(self):\n    with self._lock:\n        self.g()",
        "def f():\n    with threading.Lock():\n        time.sleep(1)",
        "def f(self):\n    self._lock.acquire()",
    ),
    "time of day": (
        "def f():\n    end = time.time() + 5",
        "def f():\n    clock = time.time_ns",
        "from time import time",
        "def f():\n    time.clock_gettime(time.CLOCK_REALTIME)",
        "def f():\n    datetime.now(UTC)",
    ),
}


@pytest.mark.parametrize(
    ("wall", "code"), [(wall, code) for wall, codes in BREACHES.items() for code in codes]
)
def test_a_breach_is_noticed(wall: str, code: str) -> None:
    assert list(WALLS[wall][0](ast.parse(code)))


@pytest.mark.parametrize(
    ("wall", "code"),
    [
        ("silent handlers", "try:\n    f()\nexcept Exception:\n    LOG.exception('x')"),
        ("silent handlers", "try:\n    f()\nexcept BaseException:\n    close()\n    raise"),
        ("silent handlers", "try:\n    f()\nexcept OSError:\n    pass"),
        ("waits under a lock", "def f(self):\n    with self._lock:\n        x = 1\n    self.sock.recv(1)"),
        ("spawns", "def f():\n    os.open('x')"),
        ("time of day", "def f():\n    time.monotonic() + time.clock_gettime(time.CLOCK_BOOTTIME)"),
    ],
)
def test_what_is_no_breach(wall: str, code: str) -> None:
    assert not list(WALLS[wall][0](ast.parse(code)))
