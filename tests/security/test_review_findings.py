"""What a review found in code that agents run commands with, attacked in what takes its place.

Each test is named after the finding.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.filters.variables import DANGEROUS_VARIABLES
from rootwrap_daemon.openstack import agent, hub
from tests.real_daemon import Daemon, NewDaemon, is_alive, wait_for
from tests.unit.client.programs import run_program

SECRET = "correct horse battery staple"
#: As an agent's filter file has it.
FILTERS = """\
[Filters]
true: CommandFilter, true, root
cat: CommandFilter, cat, root
sh: CommandFilter, sh, root
sleep: RegExpFilter, sleep, root, sleep, [0-9.]+
printenv: EnvFilter, env, root, PROCESS_TAG=, printenv
kill_sleep: KillFilter, root, sleep, -9, -15
"""


@pytest.fixture
def privileged(new_daemon: NewDaemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """A daemon, and the agent's functions configured for it."""
    daemon = new_daemon(FILTERS)
    monkeypatch.setattr(agent, "_configuration", agent._Configuration(hub.Clients(daemon.socket)))
    return daemon


@contextlib.contextmanager
def sleeper(*words: str, uid: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(words or ("sleep", "1000"), user=uid)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class TestShellInjection:
    @pytest.mark.parametrize("run_as_root", [False, True])
    def test_words_reach_the_program_as_they_are(
        self, privileged: Daemon, tmp_path: Path, run_as_root: bool
    ) -> None:
        marker = tmp_path / "marker"
        words = [
            f"; touch {marker}",
            f"$(touch {marker})",
            f"`touch {marker}`",
            f"| touch {marker}",
            "*",
            "a b",
        ]
        out = agent.execute(["sh", "-c", 'printf "%s\\n" "$@"', "sh", *words], run_as_root=run_as_root)
        assert out.splitlines() == words
        assert not marker.exists()

    @pytest.mark.parametrize("function", [agent.execute, agent.create_process])
    @pytest.mark.parametrize("run_as_root", [False, True])
    @pytest.mark.parametrize(
        "cmd",
        [
            "true; touch {}",
            b"true",
            ["true", 1],
            ["true", None],
            ["true", b"x"],
            ["true", ["x"]],
            {"true": 1},
            None,
        ],
        ids=repr,
    )
    def test_only_a_list_of_strings_is_a_command(
        self, function: Callable[..., Any], run_as_root: bool, cmd: Any
    ) -> None:
        with pytest.raises(TypeError, match=r"cmd(\[1\])? must be a "):
            function(cmd, run_as_root=run_as_root)

    @pytest.mark.parametrize("cmd", [[], [""], ["true", "a\0b"]], ids=repr)
    def test_no_command_and_no_nul(self, cmd: list[str]) -> None:
        with pytest.raises(ValueError, match="cmd"):
            agent.execute(cmd)


class TestKillProcess:
    @pytest.mark.parametrize("run_as_root", [False, pytest.param(True, marks=pytest.mark.root)])
    def test_kills(self, privileged: Daemon, run_as_root: bool) -> None:
        with sleeper() as process:
            assert agent.process_is_running(process.pid)
            agent.kill_process(str(process.pid), 9, run_as_root=run_as_root)
            assert process.wait(60) == -9
            assert not agent.process_is_running(process.pid)

    @pytest.mark.parametrize("run_as_root", [False, True])
    @pytest.mark.parametrize("zombie", [False, True])
    def test_gone_already(self, privileged: Daemon, run_as_root: bool, zombie: bool) -> None:
        with sleeper("true") as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert not agent.process_is_running(process.pid)
            if not zombie:
                process.wait()
            agent.kill_process(process.pid, 9, run_as_root)
            with pytest.raises(agent.ProcessGone):
                agent.kill_process(process.pid, 9, run_as_root, missing_ok=False)

    @pytest.mark.parametrize("missing_ok", [False, True])
    def test_no_filter_allows_it(self, privileged: Daemon, missing_ok: bool) -> None:
        with sleeper("cat", "/dev/zero", SECRET) as process:
            with pytest.raises(agent.SignalNotPermitted) as caught:
                agent.kill_process(process.pid, 9, run_as_root=True, missing_ok=missing_ok)
            assert process.poll() is None
        assert caught.value.returncode == 99
        assert SECRET not in repr(caught.value)
        assert SECRET not in repr(caught.value.__cause__)

    @pytest.mark.root
    def test_the_kernel_does_not_permit_it(self) -> None:
        program = """
            import os, sys
            from rootwrap_daemon.openstack import agent
            os.setresuid(61111, 61111, 61111)
            try:
                agent.kill_process(sys.argv[1], 9)
            except agent.SignalNotPermitted as error:
                print(error)
            """
        with sleeper() as process:
            assert "not permitted" in run_program(program, process.pid)
            assert process.poll() is None

    def test_failed_for_another_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with sleeper() as process:
            with pytest.raises(agent.SignalFailed):
                agent.kill_process(process.pid, 99)
            monkeypatch.setattr(
                agent, "_configuration", agent._Configuration(hub.Clients("/nonexistent/socket"))
            )
            with pytest.raises(agent.SignalFailed) as caught:
                agent.kill_process(process.pid, 9, run_as_root=True)
            assert process.poll() is None
        assert caught.value.returncode == 69

    @pytest.mark.parametrize("pid", [0, -1, "-1", "0", "1x", "٣", "", None, True, 1.5], ids=repr)
    @pytest.mark.parametrize("run_as_root", [False, True])
    def test_groups_and_nonsense_are_no_process(self, pid: Any, run_as_root: bool) -> None:
        with pytest.raises(ValueError, match="no process's number"):
            agent.kill_process(pid, 9, run_as_root)

    @pytest.mark.root
    @pytest.mark.parametrize("way", ["local", "privileged"])
    def test_another_process_with_its_number_confuses_nothing(self, way: str) -> None:
        # In a pid namespace of its own a number can be given again at will (ns_last_pid).
        program = """
            import os, subprocess, sys
            from rootwrap_daemon.errors import Denied
            from rootwrap_daemon.openstack import agent, hub
            old = subprocess.Popen(["sleep", "1000"])

            def swap():
                global new
                old.kill()
                old.wait()
                with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                    file.write(str(old.pid - 1))
                new = subprocess.Popen(["sleep", "61"])
                assert new.pid == old.pid

            class DaemonThatIsLate:
                def run(self, argv):
                    swap()
                    raise Denied("no")

            really = os.pidfd_open
            def pidfd_open(pid):
                pidfd = really(pid)
                swap()
                return pidfd

            privileged = sys.argv[1] == "privileged"
            if privileged:
                hub.Clients.get = lambda self: DaemonThatIsLate()
            else:
                os.pidfd_open = pidfd_open
            try:
                agent.kill_process(old.pid, 9, privileged, missing_ok=False)
            except agent.ProcessGone:
                os.pidfd_open = really
                print(new.poll(), agent.process_is_running(new.pid))
            new.kill()
            """
        done = subprocess.run(
            [
                "unshare",
                "--pid",
                "--fork",
                "--mount-proc",
                sys.executable,
                "-c",
                textwrap.dedent(program),
                way,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=Path(__file__).parents[2],
        )
        assert (done.stdout, done.stderr) == ("None True\n", "")


class TestSecretsInMessages:
    @pytest.mark.parametrize("run_as_root", [False, True])
    def test_input_and_environment_are_in_no_message(
        self, privileged: Daemon, caplog: pytest.LogCaptureFixture, run_as_root: bool
    ) -> None:
        with pytest.raises(agent.ProcessExecutionError) as caught:
            agent.execute(
                ["sh", "-c", "cat >/dev/null; echo out; echo err >&2; exit 3"],
                process_input=SECRET,
                addl_env=None if run_as_root else {"PROCESS_TAG": SECRET},
                run_as_root=run_as_root,
            )
        assert caught.value.returncode == 3
        assert "out\n" in str(caught.value)
        assert "err\n" in str(caught.value)
        assert SECRET not in str(caught.value) + caplog.text


#: Each call waits for a file that a greenthread of the same hub makes: a call that stops the hub gives up, in
#: the end, and says so.
HUB = """
    import os, sys
    way, socket, run_as_root, function, directory = sys.argv[1:]
    import eventlet
    if way == "patched":
        eventlet.monkey_patch()
    from rootwrap_daemon.openstack import agent
    agent.configure(socket=socket)
    root = run_as_root == "True"
    wait = 'for n in $(seq 3000); do [ -e "$0" ] && break; sleep 0.02; done; [ -e "$0" ] && echo done'

    def call(number):
        gate = f"{directory}/{number}"
        eventlet.spawn_after(0.02, lambda: open(gate, "x").close())
        if function == "execute":
            return agent.execute(["sh", "-c", wait, gate], run_as_root=root, check_exit_code=False)
        if function == "create_process":
            process, _ = agent.create_process(["sh", "-c", f"{wait}; sleep 0.1", gate], run_as_root=root)
            line = process.stdout.readline().decode()
            assert process.wait() == 0
            return line
        import time
        sleep = time.sleep if way == "unpatched" else eventlet.patcher.original("time").sleep

        def block():
            for _ in range(3000):
                if os.path.exists(gate):
                    return "done\\n"
                sleep(0.02)

        return agent.avoid_blocking_call(block)

    assert agent.avoid_blocking_call(lambda: 1) == 1
    # From the main greenlet, where the finding was, and from greenthreads.
    print({call(0), *eventlet.GreenPool(20).imap(call, range(1, 21))})
    """


class TestBlockedHub:
    @pytest.mark.parametrize("way", ["patched", "unpatched"])
    @pytest.mark.parametrize(
        ("function", "run_as_root"),
        [
            ("execute", False),
            ("execute", True),
            ("create_process", False),
            ("create_process", True),
            ("avoid_blocking_call", False),
        ],
    )
    def test_others_go_on_meanwhile(
        self, privileged: Daemon, way: str, function: str, run_as_root: bool, tmp_path: Path
    ) -> None:
        said = run_program(HUB, way, privileged.socket, run_as_root, function, tmp_path)
        assert said == "{'done\\n'}\n"

    @pytest.mark.parametrize("way", ["patched", "unpatched"])
    def test_hubs_of_several_native_threads(self, way: str) -> None:
        program = """
            import sys
            import eventlet
            if sys.argv[1] == "patched":
                eventlet.monkey_patch()
            from eventlet.patcher import original
            from rootwrap_daemon.openstack import agent
            out = []

            def thread():
                pool = eventlet.GreenPool(5)
                out.extend(pool.imap(lambda n: agent.execute(["sh", "-c", f"sleep 0.1; echo {n}"]), range(5)))

            threads = [original("threading").Thread(target=thread) for _ in range(3)]
            for one in threads: one.start()
            for one in threads: one.join()
            print(sorted(int(n) for n in out))
            """
        assert json.loads(run_program(program, way)) == sorted(list(range(5)) * 3)

    @pytest.mark.parametrize("way", ["patched", "unpatched"])
    def test_an_abandoned_command_is_ended(self, way: str) -> None:
        program = """
            import os, sys
            import eventlet
            if sys.argv[1] == "patched":
                eventlet.monkey_patch()
            from rootwrap_daemon.openstack import agent
            script = f"echo $$ > {sys.argv[2]}; exec sleep 1000"
            call = eventlet.spawn(agent.execute, ["sh", "-c", script])
            while not (os.path.exists(sys.argv[2]) and open(sys.argv[2]).read()):
                eventlet.sleep(0.01)
            call.kill()
            # It may have been abandoned while its start was not over: a thread of this program ends it then.
            def state():
                try:
                    with open(f"/proc/{int(open(sys.argv[2]).read())}/stat") as file:
                        return file.read().rpartition(")")[2].split()[0]
                except OSError:
                    return "Z"
            while state() != "Z":
                eventlet.sleep(0.01)
            """
        pid_file = Path(os.environ.get("TMPDIR", "/tmp")) / f"review-{os.getpid()}-{way}"
        try:
            run_program(program, way, pid_file)
            pid = int(pid_file.read_text())
        finally:
            pid_file.unlink(missing_ok=True)
        wait_for(lambda: not is_alive(pid))


class TestAddlEnv:
    @pytest.mark.parametrize("function", [agent.execute, agent.create_process])
    @pytest.mark.parametrize("run_as_root", [False, True])
    @pytest.mark.parametrize(
        "name", ["LD_PRELOAD", "LD_", "PYTHONPATH", "PATH", "BASH_ENV", "IP_LIB_DIR", "IFS"]
    )
    def test_dangerous_names_are_refused(
        self, function: Callable[..., Any], run_as_root: bool, name: str
    ) -> None:
        with pytest.raises(ValueError, match=name):
            function(["true"], addl_env={name: "x"}, run_as_root=run_as_root)

    def test_no_configuration_allows_one(self) -> None:
        for name in sorted(DANGEROUS_VARIABLES):
            with pytest.raises(ValueError, match=name):
                agent.configure(allowed_env=["GOOD", name])
        assert agent._configuration.allowed_env == agent.ALLOWED_ENV

    @pytest.mark.parametrize(
        "env", [{"UNHEARD_OF": "x"}, {"": "x"}, {"A=B": "x"}, {"PROCESS_TAG\0": "x"}], ids=repr
    )
    @pytest.mark.parametrize("run_as_root", [False, True])
    def test_others_are_not_on_the_list(self, env: dict[str, str], run_as_root: bool) -> None:
        with pytest.raises(ValueError, match=r"addl_env|no name of a variable"):
            agent.execute(["true"], addl_env=env, run_as_root=run_as_root)

    @pytest.mark.parametrize("run_as_root", [False, True])
    def test_the_value_is_one_value(self, privileged: Daemon, run_as_root: bool) -> None:
        value = "a b $(id) --split-string=x"
        out = agent.execute(
            ["printenv", "PROCESS_TAG"], addl_env={"PROCESS_TAG": value}, run_as_root=run_as_root
        )
        assert out == f"{value}\n"
        with pytest.raises((TypeError, ValueError)):
            agent.execute(["printenv"], addl_env={"PROCESS_TAG": "a\0LD_PRELOAD=x"}, run_as_root=run_as_root)

    def test_a_configured_name_passes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(agent, "_configuration", agent._Configuration())
        agent.configure(allowed_env=["GREETING"])
        assert agent.execute(["printenv", "GREETING"], addl_env={"GREETING": "hello"}) == "hello\n"


def test_signals_are_those_of_the_module() -> None:
    """`signal`, the parameter, hides no module where it is used."""
    with sleeper() as process:
        agent.kill_process(process.pid, signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
