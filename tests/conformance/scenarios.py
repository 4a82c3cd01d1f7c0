"""What every front end must do alike: the one list of scenarios.

Each plays in a process of its own, against what its stage has set up.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rootwrap_daemon import errors
from rootwrap_daemon.client import (
    PIPE,
    STDOUT,
    BadRequest,
    CommandFailed,
    CommandTimeout,
    CompletedCommand,
    DaemonUnavailable,
    Decision,
    Denied,
    EnvironmentDenied,
    ExecutableNotFound,
    LocalProtocolError,
    OutcomeUnknown,
    OutputLimit,
    TooLarge,
    Unauthorized,
)
from tests.conformance.fronts import Front, GivenUp, error_of, gather, in_a_child

#: Longer than any test: such a command is ended.
FOREVER = "1000"


@dataclass
class Scene:
    """What a scenario has to play with. `path`: of the socket."""

    front: Front
    path: str
    made: list[Any] = field(default_factory=list)

    def client(self, **options: Any) -> Any:
        client = self.front.client(self.path, **options)
        self.made.append(client)
        return client

    def ask(self, word: str) -> None:
        """Have the other side of the stage do something, and wait until it is done."""
        print(f"ask {word}", flush=True)
        assert sys.stdin.readline() == "done\n"

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(6000):
            if condition():
                return
            await self.front.sleep(0.01)
        raise AssertionError("it did not come to pass")

    async def until_ended(self, pid: int) -> None:
        """A process and its zombie are gone."""
        await self.until(lambda: not os.path.exists(f"/proc/{pid}"))


Play = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """`stage`: one of `stages.STAGES`, which says what listens on the socket."""

    play: Play
    stage: str

    @property
    def name(self) -> str:
        return self.play.__name__


SCENARIOS: dict[str, Scenario] = {}


def on(stage: str) -> Callable[[Play], Play]:
    def add(play: Play) -> Play:
        scenario = Scenario(play, stage)
        SCENARIOS[scenario.name] = scenario
        return play

    return add


# What a call gives.


@on("daemon")
async def success(scene: Scene) -> None:
    client = scene.client()
    argv = ["sh", "-c", "cat; echo $GREETING >&2; exit 3"]
    done = await client.run(argv, input=b"in \xff", env={"GREETING": "hello"})
    assert done == CompletedCommand(argv, 3, b"in \xff", b"hello\n")
    done = await client.run(argv, input="in\n", text=True, capture="pipe")
    assert done == CompletedCommand(argv, 3, "in\n", "\n")
    assert (await client.run([b"true"], check=True)).returncode == 0
    for capture in ("daemon", "pipe"):
        error = await error_of(client.run(["false"], check=True, capture=capture), CommandFailed)
        assert error.returncode == 1 and isinstance(error, subprocess.CalledProcessError)
    assert (await client.run(["sh", "-c", "kill -9 $$"])).returncode == -9
    assert await client.allows(["true"]) == Decision(True, "true")


@on("daemon")
async def denial(scene: Scene) -> None:
    client = scene.client()
    # The hub has its own descriptors from now on.
    await scene.front.sleep(0.01)
    ours = len(os.listdir("/proc/self/fd"))
    for call in (
        client.run(["rm", "x"]),
        client.run(["rm"], capture="pipe"),
        client.popen(["rm"], stdin=PIPE),
    ):
        error = await error_of(call, Denied)
        assert error.request_id and error.code == "denied"
    assert await client.allows(["rm"]) == Decision(False, "")
    assert len(os.listdir("/proc/self/fd")) == ours + 1, "the one connection"


@on("daemon")
async def errors_of_the_daemon(scene: Scene) -> None:
    client = scene.client()
    for capture in ("daemon", "pipe"):
        await error_of(client.run(["true"], env={"LD_PRELOAD": "x"}, capture=capture), EnvironmentDenied)
        await error_of(client.run(["no-such-program"], capture=capture), ExecutableNotFound)
        await error_of(client.run([], capture=capture), BadRequest)
        await error_of(client.run("true", capture=capture), BadRequest)
        await error_of(client.run(["true", "a\0b"], capture=capture), BadRequest)
        await error_of(client.run(["true", "x" * 200_000], capture=capture), TooLarge)
        await error_of(client.run(["true"], timeout="1", capture=capture), BadRequest)
        await error_of(client.run(["true"], timeout=0, capture=capture), CommandTimeout)
        assert (await client.run(["true"], capture=capture)).returncode == 0
    await error_of(client.popen(["true"], stdin=STDOUT), BadRequest)
    await error_of(client.popen(["true"], stdin=9999), BadRequest)
    await error_of(client.run(["sh", "-c", "head -c 20000000 /dev/zero"]), OutputLimit)


@on("every code")
async def every_error_code(scene: Scene) -> None:
    """Whatever code the daemon answers with, its class is raised, and the next call works."""
    client = scene.client(max_connections=1)
    for code, kind in errors.BY_CODE.items():
        error = await error_of(client.run([code]), kind)
        assert error.code == code
        assert (str(error), error.message, error.cmd) == (f"{code}: why (request r-1)", "why", [code])
        await error_of(client.allows([code]), kind)
        await error_of(client.popen([code], stdout=PIPE), kind)


@on("daemon")
async def timeout(scene: Scene) -> None:
    client = scene.client()
    for capture in ("daemon", "pipe"):
        error = await error_of(client.run(["sleep", FOREVER], timeout=0.2, capture=capture), CommandTimeout)
        assert isinstance(error, subprocess.TimeoutExpired)
        assert (error.cmd, error.timeout) == (["sleep", FOREVER], 0.2)
    process = await client.popen(["sleep", FOREVER], timeout=0.2)
    await error_of(process.wait(), CommandTimeout)
    await error_of(process.communicate(), CommandTimeout)
    process.close()
    assert (await client.run(["true"])).returncode == 0


# Callers that go away, and clients.


@on("daemon")
async def cancel(scene: Scene) -> None:
    """A caller that waits no longer takes its whole command with it, and leaves the client as it was."""
    client = scene.client(max_connections=1)
    marker = f"{scene.path}.pid"
    for capture in ("daemon", "pipe"):
        script = f"sleep {FOREVER} & echo $! > {marker}.new; mv {marker}.new {marker}; wait"
        call = client.run(["sh", "-c", script], capture=capture)
        await error_of(scene.front.while_absent(marker, call), GivenUp)
        with open(marker) as file:
            await scene.until_ended(int(file.read()))
        os.unlink(marker)
        assert (await client.run(["true"])).returncode == 0


@on("daemon")
async def cancel_one_of_many(scene: Scene) -> None:
    """Those that wait for a connection, and those that are given one as they go, lose none."""
    if not scene.front.kills:
        return
    client = scene.client(max_connections=2)
    calls = [scene.front.spawn(client.run(["sleep", "0.1"])) for _ in range(10)]
    await scene.front.sleep(0.05)
    for call in calls[::3]:
        call.end()
    for number, call in enumerate(calls):
        if number % 3:
            assert (await call.result()).returncode == 0
    await gather(scene.front, [client.run(["true"]) for _ in range(4)])


@on("daemon")
async def a_closed_client(scene: Scene) -> None:
    client = scene.client(max_connections=1)
    began, go_on = f"{scene.path}.began", f"{scene.path}.go-on"
    script = f": > {began}; until [ -e {go_on} ]; do sleep 0.02; done"
    first = scene.front.spawn(client.run(["sh", "-c", script]))
    await scene.until(lambda: os.path.exists(began))
    second = scene.front.spawn(client.run(["true"]))
    await scene.front.sleep(0.05)
    client.close()
    await error_of(second.result(), LocalProtocolError)
    with open(go_on, "x"):
        pass
    assert (await first.result()).returncode == 0
    await error_of(client.run(["true"]), LocalProtocolError)
    os.unlink(began)
    os.unlink(go_on)


# Much of it.


@on("daemon")
async def large_output(scene: Scene) -> None:
    client = scene.client()
    for size, capture in ((10_000_000, "daemon"), (100_000_000, "pipe")):
        done = await client.run(["sh", "-c", f"head -c {size} /dev/zero"], capture=capture)
        assert len(done.stdout) == size
    data = os.urandom(8_000_000)
    for capture in ("daemon", "pipe"):
        assert (await client.run(["cat"], input=data, capture=capture)).stdout == data
        assert (await client.run(["true"], input=data, capture=capture)).returncode == 0


@on("daemon")
async def two_hundred_at_once(scene: Scene) -> None:
    """They run side by side: each waits for a word that is given when all of them have begun."""
    client = scene.client(max_connections=200)
    ticks = Ticks(scene)
    gate, began = f"{scene.path}.gate", f"{scene.path}.began"
    os.mkfifo(gate)
    script = f"echo >> {began}; read x < {gate}; {ticks.awaited}; exit 3"
    calls = [scene.front.spawn(client.run(["sh", "-c", script])) for _ in range(200)]
    await scene.until(lambda: os.path.exists(began) and os.path.getsize(began) == 200)
    # Opened for both: it is there before the first who reads, and stays for the last.
    opened = os.open(gate, os.O_RDWR)
    os.write(opened, b"x\n" * 200)
    for call in calls:
        assert (await call.result()).returncode == 3
    os.close(opened)
    os.unlink(gate)
    os.unlink(began)
    await ticks.went_on()


@on("daemon")
async def more_callers_than_connections(scene: Scene) -> None:
    client = scene.client(max_connections=3)
    done = await gather(scene.front, [client.run(["sh", "-c", f"echo {n}"]) for n in range(40)])
    assert [one.stdout for one in done] == [b"%d\n" % n for n in range(40)]


@on("daemon")
async def fifty_on_pipes_at_once(scene: Scene) -> None:
    client = scene.client()
    ticks = Ticks(scene)
    ours = len(os.listdir("/proc/self/fd"))
    data = os.urandom(100_000)

    async def one() -> None:
        script = f"{ticks.awaited}; exec cat"
        async with await client.popen(["sh", "-c", script], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            assert await process.communicate(data) == (data, b"")

    await gather(scene.front, [one() for _ in range(50)])
    await ticks.went_on()
    await scene.until(lambda: len(os.listdir("/proc/self/fd")) <= ours + 2)


class Ticks:
    """Somebody else in the same hub or loop, who must not be held up.

    `awaited`: with this a shell waits until he has come round several times.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._file = f"{scene.path}.ticks"
        self.awaited = f"until [ -e {self._file} ]; do sleep 0.02; done"
        self._count = 0
        self._task = scene.front.spawn(self._tick())

    async def _tick(self) -> None:
        while self._count < 10_000:
            self._count += 1
            if self._count == 6:
                with open(self._file, "w"):
                    pass
            await self._scene.front.sleep(0.001)

    async def went_on(self) -> None:
        """It came round several times since."""
        assert self._count > 5, self._count
        self._count = 10_000
        await self._task.result()
        os.unlink(self._file)

    async def go_on(self) -> None:
        """Let it come round several times."""
        await self._scene.until(lambda: self._count > 5)


# Commands on pipes.


@on("daemon")
async def streaming_both_ways(scene: Scene) -> None:
    client = scene.client()
    async with await client.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
        for number in range(100):
            await process.write(b"%d\n" % number)
            assert await process.readline() == b"%d\n" % number
        assert process.returncode is None
        process.end_of_input()
        assert await process.read() == b""
        assert await process.wait() == process.returncode == 0


@on("daemon")
async def four_at_one_command(scene: Scene) -> None:
    """One reads, one writes, one waits, one signals; the others of this process go on."""
    client = scene.client()
    ticks = Ticks(scene)
    size, chunk = 30_000_000, 1_000_000
    process = await client.popen(
        ["sh", "-c", f"trap 'echo got >&2' USR1; echo ready; cat; {ticks.awaited}; exit 5"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    assert await process.readline() == b"ready\n"

    async def write() -> None:
        for _ in range(size // chunk):
            await process.write(b"x" * chunk)
        process.end_of_input()

    async def signals() -> None:
        for _ in range(20):
            process.send_signal(signal.SIGUSR1)
            await scene.front.sleep(0.01)

    read, _, code, _ = await gather(scene.front, [process.read(), write(), process.wait(), signals()])
    assert len(read) == size
    # cat is not the main process; the shell says so whenever it comes back to its own.
    assert code == 5
    assert process.returncode == 5
    process.close()
    await ticks.went_on()


@on("daemon")
async def a_reader_that_is_late(scene: Scene) -> None:
    """Nothing is read for a while, then all: the pipe fills up, and nothing else does."""
    client = scene.client()
    ticks = Ticks(scene)
    async with await client.popen(
        ["sh", "-c", f"head -c 3000000 /dev/zero; {ticks.awaited}; echo end"], stdout=PIPE
    ) as process:
        await scene.front.sleep(0.3)
        assert process.returncode is None
        assert await process.read() == bytes(3_000_000) + b"end\n"
        assert await process.wait() == 0
    await ticks.went_on()


@on("daemon")
async def a_reader_that_waits_long(scene: Scene) -> None:
    client = scene.client()
    ticks = Ticks(scene)
    process = await client.popen(["sh", "-c", f"sleep 0.5; {ticks.awaited}; echo late"], stdout=PIPE)
    waiters = [scene.front.spawn(process.wait()) for _ in range(3)]
    assert await process.readline() == b"late\n"
    assert [await waiter.result() for waiter in waiters] == [0, 0, 0]
    process.close()
    await ticks.went_on()


@on("daemon")
async def signals(scene: Scene) -> None:
    client = scene.client()
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGUSR1):
        async with await client.popen(["sleep", FOREVER]) as process:
            process.send_signal(number)
            assert await process.wait() == -number
            process.send_signal(number)
    async with await client.popen(["sleep", FOREVER]) as process:

        async def quit() -> None:
            process.send_signal(signal.SIGQUIT)

        assert "signal 3" in str(await error_of(quit(), Denied))
        process.terminate()
        assert await process.wait() == -signal.SIGTERM


@on("daemon")
async def the_end_of_a_handle(scene: Scene) -> None:
    """By `cancel` and by `close` alike the whole group ends."""
    client = scene.client()
    for way in ("cancel", "close"):
        process = await client.popen(["sh", "-c", f"sleep {FOREVER} & echo $!; wait"], stdout=PIPE)
        child = int(await process.readline())
        getattr(process, way)()
        if way == "cancel":
            assert await process.wait() == -signal.SIGTERM
        else:
            await error_of(process.wait(), OutcomeUnknown)
        await scene.until_ended(child)
        process.close()


@on("daemon")
async def a_handle_closed_under_others(scene: Scene) -> None:
    """Those that read, write and wait come back, and the others of this process go on."""
    client = scene.client()
    ticks = Ticks(scene)
    process = await client.popen(["sh", "-c", f"echo ready; sleep {FOREVER}"], stdin=PIPE, stdout=PIPE)
    assert await process.readline() == b"ready\n"

    async def write() -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            await process.write(b"x" * 1_000_000)

    tasks = [scene.front.spawn(play) for play in (process.read(), write())]
    waiter = scene.front.spawn(process.wait())
    await scene.front.sleep(0.2)
    await ticks.go_on()
    process.close()
    await error_of(waiter.result(), OutcomeUnknown)
    for task in tasks:
        assert await task.result() in (b"", None)
    await ticks.went_on()


@on("daemon")
async def input_that_is_not_read(scene: Scene) -> None:
    client = scene.client()
    ticks = Ticks(scene)
    for words in (["true"], ["sh", "-c", f"read x; {ticks.awaited}"]):
        async with await client.popen(words, stdin=PIPE, stdout=PIPE) as process:
            assert await process.communicate(b"x" * 3_000_000) == (b"", None)
    await ticks.went_on()


@on("daemon")
async def a_child_in_the_background(scene: Scene) -> None:
    """It keeps the pipes open and lives on; nobody waits for it."""
    client = scene.client()
    script = f"sleep {FOREVER} & echo $!"
    process = await client.popen(["sh", "-c", script], stdout=PIPE, stderr=STDOUT)
    pids = [int((await process.communicate())[0])]
    process.close()
    for capture in ("daemon", "pipe"):
        pids.append(int((await client.run(["sh", "-c", script], capture=capture)).stdout))
    for pid in pids:
        await scene.until(lambda pid=pid: "sleep" in name_of(pid))  # type: ignore[misc]
        assert (await client.run(["kill", "-9", str(pid)])).returncode == 0


def name_of(pid: int) -> str:
    with open(f"/proc/{pid}/comm") as file:
        return file.read()


@on("daemon")
async def what_the_daemon_does_itself(scene: Scene) -> None:
    client = scene.client()
    with open("/etc/hostname", "rb") as file:
        name = file.read()
    process = await client.popen(["cat", "/etc/hostname"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert (process.pid, process.returncode) == (None, 0)
    assert await process.communicate() == (name, b"")
    process.close()
    read, write = os.pipe()
    (await client.popen(["cat", "/etc/hostname"], stdout=write)).close()
    os.close(write)
    with open(read, "rb") as file:
        assert file.read() == name


# Daemons that are not there, or go.


@on("own daemon")
async def restart_between_calls(scene: Scene) -> None:
    client = scene.client()
    await gather(scene.front, [client.run(["sleep", "0.1"]) for _ in range(5)])
    for how in ("restart", "crash"):
        scene.ask(how)
        assert (await client.run(["true"])).returncode == 0
        assert (await client.run(["true"], capture="pipe")).returncode == 0
        await gather(scene.front, [client.run(["sleep", "0.1"]) for _ in range(5)])


@on("own daemon")
async def restart_during_a_call(scene: Scene) -> None:
    client = scene.client()
    script = ["sh", "-c", f"echo >> {scene.path}.began; sleep {FOREVER}"]
    process = await client.popen(["sleep", FOREVER], stdout=PIPE)
    calls = [scene.front.spawn(client.run(script, capture=capture)) for capture in ("daemon", "pipe")]
    began = f"{scene.path}.began"
    await scene.until(lambda: os.path.exists(began) and os.path.getsize(began) == 2)
    scene.ask("crash")
    for call in calls:
        error = await error_of(call.result(), OutcomeUnknown)
        assert "may have" in str(error)
    await error_of(process.communicate(), OutcomeUnknown)
    process.close()
    assert os.path.getsize(began) == 2, "run again"
    assert (await client.run(["true"])).returncode == 0


@on("own daemon")
async def stream_of_a_daemon_that_is_gone(scene: Scene) -> None:
    """A command that nobody ends any more holds up nobody who reads, whether it writes or not."""
    client = scene.client()
    quiet = await client.popen(["sleep", FOREVER], stdout=PIPE)
    chatty = await client.popen(["sh", "-c", "while echo x; do :; done"], stdout=PIPE)

    async def read_all() -> None:
        while await chatty.readline():
            pass

    assert await chatty.readline() == b"x\n"
    reading = scene.front.spawn(quiet.readline())
    scene.ask("vanish")
    await error_of(reading.result(), OutcomeUnknown)
    await error_of(read_all(), OutcomeUnknown)
    await error_of(quiet.wait(), OutcomeUnknown)
    await error_of(chatty.communicate(), OutcomeUnknown)
    for process in (quiet, chatty):
        process.close()


async def unavailable(scene: Scene, *words: str, **options: Any) -> None:
    """All that can be asked says the program and these words."""
    client = scene.client(**options)
    # The hub has its own descriptors from now on.
    await scene.front.sleep(0.01)
    ours = len(os.listdir("/proc/self/fd"))
    calls = (client.run(["true"]), client.run(["true"], capture="pipe"), client.popen(["true"]))
    for call in (*calls, client.allows(["true"])):
        error = await error_of(call, DaemonUnavailable)
        for word in ("true: ", *words):
            assert word in str(error), error
    assert len(os.listdir("/proc/self/fd")) == ours


@on("nothing")
async def no_daemon(scene: Scene) -> None:
    await unavailable(scene, scene.path, "no such socket", "is the daemon running?")
    scene.ask("start")
    assert (await scene.made[0].run(["true"])).returncode == 0


@on("a dead socket")
async def nobody_listens(scene: Scene) -> None:
    await unavailable(scene, scene.path, "nobody listens", "is the daemon running?")


@on("not our group")
async def wrong_permissions(scene: Scene) -> None:
    await unavailable(scene, scene.path, "permission denied", "group")


@on("not our user")
async def unauthorized(scene: Scene) -> None:
    client = scene.client()
    for call in (client.run(["true"]), client.popen(["true"]), client.allows(["true"])):
        await error_of(call, Unauthorized)


@on("a full queue")
async def a_full_queue(scene: Scene) -> None:
    ticks = Ticks(scene)
    await unavailable(scene, scene.path, "stayed full", connect_timeout=0.5)
    await ticks.went_on()


@on("another version")
async def version_mismatch(scene: Scene) -> None:
    await unavailable(scene, "version 2", "version")


@on("another version, without a word")
async def version_mismatch_in_the_hello(scene: Scene) -> None:
    await unavailable(scene, "speaks version 2 of the protocol, this client 1")


@on("another protocol")
async def not_this_protocol(scene: Scene) -> None:
    client = scene.client()
    await error_of(client.allows(["true"]), DaemonUnavailable)
    for call in (client.run(["true"]), client.popen(["true"], stdin=PIPE)):
        error = await error_of(call, OutcomeUnknown)
        assert "does not speak the protocol" in str(error)


# Processes and threads.


@on("daemon")
async def use_after_fork(scene: Scene) -> None:
    """A child begins without connections, and neither side disturbs the other."""
    client = scene.client()
    script = ["sh", "-c", "echo $PPID"]
    await client.run(script)
    process = await client.popen(["cat"], stdin=PIPE, stdout=PIPE)

    async def child() -> None:
        await gather(scene.front, [client.run(["sleep", "0.05"]) for _ in range(3)])
        async with await client.popen(["cat"], stdin=PIPE, stdout=PIPE) as own:
            assert await own.communicate(b"child") == (b"child", None)

    running = scene.front.spawn(client.run(["sleep", "0.5"]))
    await scene.front.sleep(0.1)
    assert await in_a_child(scene.front, child) == 0
    await process.write(b"parent\n")
    assert await process.readline() == b"parent\n"
    process.close()
    assert (await running.result()).returncode == 0
    assert (await client.run(["true"])).returncode == 0


@on("daemon")
async def native_threads(scene: Scene) -> None:
    """Several, each with a hub or loop of its own, share one client; and one client each."""
    shared = scene.client(max_connections=3)
    right = []

    async def one(client: Any, number: int) -> None:
        done = await client.run(["sh", "-c", f"echo {number}"])
        assert done.stdout == b"%d\n" % number
        async with await client.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
            assert await process.communicate(b"%d" % number) == (b"%d" % number, None)
        right.append(number)

    async def many(first: int) -> None:
        await gather(scene.front, [one(shared, first + n) for n in range(5)])
        await one(scene.client(), first + 5)

    threads = [scene.front.native(lambda first=first: many(first)) for first in range(0, 40, 10)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    await many(40)
    await scene.until(lambda: not any(thread.is_alive() for thread in threads))
    assert len(right) == 5 * 6


@on("daemon")
async def shutdown_without_noise(scene: Scene) -> None:
    """Ends with idle connections, running commands, unread pipes and callers that still wait."""
    client = scene.client(max_connections=3)
    await client.run(["true"])
    scene.made += [scene.front.spawn(client.run(["sleep", FOREVER])) for _ in range(5)]
    process = await client.popen(["sh", "-c", "cat; exec sleep 1000"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
    scene.made += [process, scene.front.spawn(process.wait()), scene.front.spawn(process.readline())]
    await process.write(b"x" * 100)
    await scene.front.sleep(0.2)


#: So that what a scenario made is still there when the interpreter ends.
KEPT: list[Any] = [threading.current_thread()]
