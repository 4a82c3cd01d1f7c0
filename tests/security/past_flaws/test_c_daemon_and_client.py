"""Daemon and client: the attacks of the rows C."""

import ast
import contextlib
import os
import pwd
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.daemon.serve.session import HANDLERS
from rootwrap_daemon.errors import BadRequest, Error, OutcomeUnknown
from rootwrap_daemon.protocol.codec import HEADER
from rootwrap_daemon.protocol.messages import REQUESTS, Cancel, Check, Hello, Run, Signal, Start, Status
from tests.load import calls_go_on, flood, is_idle
from tests.processes import together
from tests.real_daemon import HELLO, Daemon, NewDaemon, children_of, frame, is_alive, settle, wait_for
from tests.security.past_flaws.attack import (
    DIRTY,
    OTHER,
    ROOT_OF_TREE,
    SH,
    SLEEP,
    TRUE,
    outcome,
    process,
    raw_as,
    said,
    use,
)


def test_C1_denial_is_an_answer_also_when_nothing_can_be_logged(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    # With its standard error closed there is no log to wait for; the socket is enough.
    daemon.inside = ["sh", "-c", 'echo listening on >&2; exec "$@" 2>&-', "sh"]
    daemon.start()
    before = daemon.pid, settle(daemon)
    with daemon.client() as client:
        codes = set()
        for _ in range(300):
            try:
                client.run(["nope"])
            except Error as error:
                codes.add(error.code)
        assert codes == {"denied"}
        assert client.run(["true"]).returncode == 0
    wait_for(lambda: (daemon.pid, settle(daemon)) == before)


def test_C2_each_fault_has_an_error_of_its_own(shared: Daemon, place: Path) -> None:
    bad = place / "bad"
    bad.write_bytes(b"\x7fELF not really")
    bad.chmod(0o755)
    use(shared, TRUE, f"bad: CommandFilter, {bad}, root")
    wrong: list[Any] = [
        [],
        [b"true\0"],
        [b"true", 1],
        [b"true", None],
        b"true",
        "true",
        {b"0": b"true"},
        None,
    ]
    for argv in wrong:
        assert b"bad_request" in said(shared, HELLO + frame([1, argv, [], None, None])), argv
    with shared.client() as client:
        for given in ([], "true", ["true", 1], ["true", None], ["true\0"], ["true", "\ud800"], {"0": "true"}):
            with pytest.raises(BadRequest):
                client.run(given)  # type: ignore[arg-type]
    assert outcome(shared, ["true", *["x" * 100_000] * 21]) == "too_large"
    assert outcome(shared, ["true", "x" * 131_072]) == "too_large"
    assert outcome(shared, str(bad)) == "executable_not_found"
    assert outcome(shared, "nope") == "denied"
    assert outcome(shared, "true") == b""


def test_C3_no_return_code_is_mistaken_for_a_verdict(shared: Daemon) -> None:
    use(shared, SH)
    for code in (96, 97, 98, 99, 126, 127, 137):
        assert outcome(shared, f"sh -c 'exit {code}'") == code
    assert outcome(shared, "sh -c 'kill -KILL $$'") == -signal.SIGKILL


def test_C4_request_that_may_have_run_is_not_sent_again(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon()
    marker = tmp_path / "ran"
    failures: list[BaseException] = []

    def work(client: Client) -> None:
        try:
            client.run(["sh", "-c", f"echo x >> '{marker}'; sleep 1000"])
        except BaseException as error:
            failures.append(error)

    with daemon.client() as client:
        client.run(["true"])
        thread = threading.Thread(target=work, args=(client,))
        thread.start()
        wait_for(marker.exists)
        (left,) = daemon.children()
        daemon.restart(signal.SIGKILL)
        thread.join(60)
        # The same client goes on with the new daemon.
        assert client.run(["true"]).returncode == 0
    os.killpg(left, signal.SIGKILL)
    assert [type(failure) for failure in failures] == [OutcomeUnknown]
    assert marker.read_text() == "x\n"


def test_C5_long_command_delays_no_other_of_the_same_client(shared: Daemon) -> None:
    use(shared, SLEEP, TRUE)
    with shared.client() as client:
        threads = [threading.Thread(target=client.run, args=(["sleep", "1000"],)) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(shared.children()) == 3)
        for _ in range(5):
            assert client.run(["true"]).returncode == 0
        # All three still ran meanwhile.
        sleepers = shared.children()
        assert len(sleepers) == 3
        for pid in sleepers:
            os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join(60)


def test_C6_background_child_that_keeps_the_output_open_holds_nothing(shared: Daemon) -> None:
    use(shared, SH)
    output = outcome(shared, ["sh", "-c", "sleep 1000 & echo $!"], timeout=60)
    assert isinstance(output, bytes)
    assert is_alive(int(output))
    os.kill(int(output), signal.SIGKILL)


def test_C7_time_output_and_number_of_commands_are_bounded(new_daemon: NewDaemon) -> None:
    filters = (
        "[Filters]\nsleep: CommandFilter, sleep, root\nsh: CommandFilter, sh, root\n[sleep]\ntimeout = 1\n"
    )
    daemon = new_daemon(filters, max_output="100000", max_commands_per_user="1", command_timeout="30")
    assert outcome(daemon, "sleep 999999999999999") == "timeout"
    assert outcome(daemon, "sh -c 'sleep 1000'", timeout=0.2) == "timeout"
    assert outcome(daemon, "sh -c 'head -c 64000000 /dev/zero'") == "output_limit"
    with daemon.client() as client:
        # The commands before are children, too, until they are reaped, and have their place a moment longer.
        wait_for(lambda: outcome(daemon, "sh -c true") == b"" and daemon.children() == [])
        thread = threading.Thread(target=client.run, args=(["sh", "-c", "sleep 1000"],))
        thread.start()
        wait_for(lambda: daemon.children() != [])
        assert outcome(daemon, "sh -c true") == "busy"

        def ended() -> bool:
            for pid in daemon.children():
                # It leads a group a moment after it was made; orphans of the commands before lead none.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            return not thread.is_alive()

        wait_for(ended)
    wait_for(lambda: daemon.children() == [])


CLIENT = "import sys; from rootwrap_daemon.client import Client; "
CLIENT += "Client(sys.argv[1], connect_timeout=60).run(sys.argv[2:])"


def test_C8_command_does_not_outlive_its_client(shared: Daemon) -> None:
    use(shared, SH)
    before = set(shared.children())
    with process(sys.executable, "-c", CLIENT, shared.socket, "sh", "-c", "sleep 1000 & sleep 1000"):
        wait_for(lambda: len(set(shared.children()) - before) == 1)
        (leader,) = set(shared.children()) - before
        wait_for(lambda: len(children_of(leader)) == 2)
        family = [leader, *children_of(leader)]
    wait_for(lambda: not any(map(is_alive, family)))


@pytest.mark.root
def test_C9_whoever_is_not_allowed_costs_neither_thread_nor_descriptor(new_daemon: NewDaemon) -> None:
    # A silent client that is allowed would stay for that long.
    daemon = new_daemon(socket_mode="0666", request_timeout="3600", daemon_timeout="3600")
    before = settle(daemon)
    with flood(daemon, 1000, uid=OTHER):
        wait_for(lambda: daemon.figures() == before)
        with daemon.client() as client:
            calls_go_on(daemon, client)
    wait_for(lambda: settle(daemon) == before)
    wait_for(lambda: is_idle(daemon))


def test_C10_announced_length_allocates_nothing(shared: Daemon) -> None:
    def peak() -> int:
        status = Path(f"/proc/{shared.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def mapped() -> int:
        return int(Path(f"/proc/{shared.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    # The C library keeps 64 MiB of addresses for each thread that it has once seen.
    said(shared, HELLO)
    before = peak(), mapped()
    for greeting in (b"", HELLO):
        answers = said(shared, greeting + HEADER.pack(2**32 - 1) + b"x" * 1000)
        assert b"too_large" in answers
    # Eight bytes of length, as another daemon reads them.
    assert b"bad_request" in said(shared, b"\0\0\0\2\0\0\0\0") + said(shared, frame(2**33))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(shared.socket)
        connection.sendall(HELLO + HEADER.pack(16 * 1024 * 1024) + b"x" * 1000)
        time.sleep(0.1)
        assert mapped() - before[1] < 256 * 1024 * 1024
    assert peak() - before[0] < 16 * 1024


def test_C11_nothing_starts_before_all_of_a_request_is_valid(shared: Daemon, place: Path) -> None:
    use(shared, SH)
    script = f"touch '{place}/ran'; cat"
    assert outcome(shared, ["sh", "-c", script], input="\ud800") == "bad_request"
    argv = [b"sh", b"-c", script.encode()]
    wrong: list[list[Any]] = [[[], "text", None], [[], 1, None], [[], None, "soon"], [[], None, -1]]
    for rest in (*wrong, [[[b"A"]], None, None]):
        assert b"bad_request" in said(shared, HELLO + frame([1, argv, *rest]))
    assert not (place / "ran").exists()
    assert outcome(shared, ["sh", "-c", script], input="text") == b"text"
    assert (place / "ran").exists()


def test_C12_client_can_say_what_is_in_one_table(shared: Daemon) -> None:
    assert set(HANDLERS) == {Hello, Run, Start, Check, Status, Cancel, Signal} == set(REQUESTS.values())
    for what in (*range(4, 300, 37), -1, 2**64 - 1, "shutdown", b"cancel_timer", "debug_info", None, 1.0):
        assert b"bad_request" in said(shared, HELLO + frame([what])), what
        assert b"bad_request" in said(shared, HELLO + frame([what, [], {}])), what
    assert is_alive(shared.pid)


@pytest.mark.root
def test_C13_who_asks_is_what_the_kernel_says(shared: Daemon, place: Path) -> None:
    use(shared, SH)
    request = HELLO + frame([1, [b"sh", b"-c", f"touch '{place}/ran'".encode()], [], None, None])
    assert b"unauthorized" in raw_as(shared, request, "", uid=OTHER)
    # No secret opens it: the daemon has none.
    assert b"unauthorized" in raw_as(shared, b"#CHALLENGE#" + bytes(32) + request, "", uid=OTHER)
    assert not (place / "ran").exists()
    assert b"unauthorized" not in raw_as(shared, request, "", uid=0)
    assert (place / "ran").exists()


def test_C14_life_of_the_daemon_is_not_the_clients(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(daemon_timeout="1")
    names = set(os.listdir(daemon.directory))
    before = settle(daemon)
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0
        # Idle, the connection ends; the daemon does not, and the client does not notice.
        wait_for(lambda: daemon.figures() == before)
        assert client.run(["true"]).returncode == 0
        # Killed, it leaves nothing that the next one stumbles over.
        daemon.restart(signal.SIGKILL)
        assert client.run(["true"]).returncode == 0
        assert client.run(["ls", "/proc/self/fd"]).stdout.split() == [b"0", b"1", b"2", b"3"]
    assert set(os.listdir(daemon.directory)) == names
    wait_for(lambda: daemon.children() == [])
    # A directory among the filters is a finding, not the end.
    (daemon.directory / "filters.d" / "sub.filters").mkdir()
    assert not daemon.reload()
    assert "not a regular file" in daemon.log
    assert outcome(daemon, "nope") == "denied"
    assert daemon.stop() == 0
    assert not os.path.exists(daemon.socket)


def test_C15_records_cannot_be_forged(shared: Daemon) -> None:
    use(shared, TRUE)
    before = len(shared.audit())
    evil = [
        "x\n2026-01-01 forged: root > root",
        "--password",
        "hunter2",
        "token=hunter2",
        "http://u:hunter2@h/",
    ]
    assert outcome(shared, ["true", *evil], input=b"hunter2") == b""
    run, end = shared.audit()[before:]
    assert (run["event"], end["event"]) == ("run", "end")
    assert run["argv"][:2] == ["true", evil[0]]
    assert (run["uid"], run["pid"]) == (0, os.getpid())
    last = (shared.directory / "audit.jsonl").read_text().splitlines()[before:]
    assert len(last) == 2
    assert not any(
        word in line for line in last for word in ("hunter2", "of the starter", DIRTY["USER"] + '"')
    )
    assert "2026-01-01" not in shared.log


@pytest.mark.root
def test_C16_nothing_of_ours_runs_between_fork_and_exec(shared: Daemon) -> None:
    calls = [
        (path.name, getattr(node.func, "attr", ""), {keyword.arg for keyword in node.keywords})
        for part in ("daemon", "policy", "filters", "protocol")
        for path in (ROOT_OF_TREE / "rootwrap_daemon" / part).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    assert [call for call in calls if "preexec_fn" in call[2] or call[1] in ("fork", "forkpty")] == []
    assert {call[0] for call in calls if call[1] == "Popen"} == {"spawn.py"}
    # As another user from many threads at once: each ends, with its own output.
    use(shared, "sh: CommandFilter, sh, nobody")
    outputs: list[object] = []

    def work(number: int) -> None:
        for step in range(8):
            outputs.append(outcome(shared, f"sh -c 'echo {number}.{step} $(id -u)'", timeout=60))

    together(threading.Thread(target=work, args=(number,)) for number in range(8))
    uid = pwd.getpwnam("nobody").pw_uid
    assert set(outputs) == {b"%d.%d %d\n" % (number, step, uid) for number in range(8) for step in range(8)}


def test_C17_command_has_a_session_and_limits_of_its_own(shared: Daemon) -> None:
    use(shared, SH)
    script = 'read -r p c s pp g se t x < /proc/self/stat; echo "$p $g $se $t"; ulimit -n'
    output = outcome(shared, ["sh", "-c", script])
    assert isinstance(output, bytes)
    pid, group, session, terminal, limit = output.split()
    assert pid == group == session
    assert terminal == b"0"
    assert int(session) != os.getsid(shared.pid)
    assert shared.options["rlimit_nofile"] == "1024"
    assert limit == b"8192"
