"""The service under a real systemd: started by its socket, restarted, reloaded, killed, hung."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.real_daemon import wait_for
from tests.state_table import CASES, LOOK, filters, limits_of, status_of, wrong
from tests.systemd.conftest import FILTERS, Install, with_filter
from tests.systemd.machine import INSIDE, PYTHON, Machine

pytestmark = pytest.mark.timeout(300)

TIMES = 50
CALLERS = 16
DNSMASQ = ["dnsmasq", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts"]


@contextmanager
def under_load(machine: Machine, instance: str = "netagent") -> Iterator[Counter[str]]:
    """Callers ask all the while. Afterwards: what came of it, judged."""
    file = "/run/calls"
    machine.run("rm", "-f", file)
    script = f"{INSIDE}/tests/systemd/callers.py"
    process = subprocess.Popen(
        machine.command(PYTHON, script, instance, file, str(CALLERS), user=instance),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    found: Counter[str] = Counter()
    try:
        wait_for(lambda: machine.run("test", "-s", file, check=False).returncode == 0)
        yield found
        answer, _ = process.communicate(timeout=100)
    finally:
        process.kill()
        process.wait()
    outcomes: dict[str, str] = json.loads(answer)
    ran = Counter(machine.run("cat", file).stdout.split())
    for word, outcome in outcomes.items():
        if outcome == "done":
            assert ran.pop(word, 0) == 1, f"{word} was answered and ran another number of times"
        else:
            assert outcome.startswith("OutcomeUnknown: "), (word, outcome)
            assert ran.pop(word, 0) <= 1, word
    assert not ran, "commands ran that nobody asked for, or twice"
    found.update(outcome.split(":")[0] for outcome in outcomes.values())


def main_pid(machine: Machine, service: str) -> str:
    return machine.show(service, "MainPID")


def test_first_request_starts_the_daemon(machine: Machine, install: Install) -> None:
    service = install()
    assert machine.show(service, "ActiveState") == "inactive"
    assert machine.run("stat", "-c", "%a %U %G", "/run/rootwrap-daemon/netagent.sock").stdout == (
        "660 root netagent\n"
    )
    assert machine.ask("netagent", "id", "-u") == {"returncode": 0, "stdout": "0\n", "stderr": ""}
    assert machine.show(service, "ActiveState") == "active"
    assert machine.show(service, "StatusText") == "Serving: 7 filters of generation 1"
    assert machine.ask("netagent", "cat", "/etc/shadow")["error"] == "denied"
    records = machine.records(service)
    assert [(one["ROOTWRAP_EVENT"], one.get("ROOTWRAP_ARGV")) for one in records] == [
        ("run", '["id", "-u"]'),
        ("end", None),
        ("denied", '["cat", "/etc/shadow"]'),
    ]
    assert {one["ROOTWRAP_UID"] for one in records} == {"61001"}
    assert {one["SYSLOG_IDENTIFIER"] for one in records} == {"rootwrap-daemon"}
    told = machine.ctl("status", "--json", "--socket", "/run/rootwrap-daemon/netagent.sock").stdout
    assert json.loads(told)["policy"]["filters"] == 7, told


def test_commands_get_nothing_of_the_manager(machine: Machine, install: Install) -> None:
    install(filters=with_filter("env: CommandFilter, env, root"))
    environ = machine.ask("netagent", "env")["stdout"]
    assert "PATH=" in environ
    assert not any(word in environ for word in ("NOTIFY", "WATCHDOG", "LISTEN", "INVOCATION", "RUNTIME_DIR"))


def test_state_is_that_of_the_table(machine: Machine, install: Install) -> None:
    """For every pair of options, as wherever else a daemon is started."""
    look = "/opt/look"
    machine.write(look, LOOK)
    service = install(filters=filters(look))
    # Of capabilities that the unit takes no filter here has any.
    found = {}
    for name, case in CASES.items():
        said = machine.ask("netagent", "sh", look, name)
        assert said.get("returncode") == 0, (case, said)
        pid = main_pid(machine, service)
        status = status_of(machine.run("cat", f"/proc/{pid}/status").stdout)
        limits = limits_of(machine.run("cat", f"/proc/{pid}/limits").stdout)
        if differs := wrong(case, said["stdout"], status, limits, "/sbin:/usr/sbin:/bin:/usr/bin"):
            found[name] = (case, differs)
    assert not found


def test_paths_in_a_directory_of_the_agents(machine: Machine, install: Install) -> None:
    """RestrictSUIDSGID= of the unit takes openat2(2) away, from the daemon and from its commands."""
    place = "/var/lib/netagent"
    chown = f"chown: ArgvFilter, chown, root, root, {{path={place}}}"
    install(filters=with_filter(f"{chown}\ntouch: ArgvFilter, touch, root, {{path={place}}}"))
    machine.run("install", "-d", "-o", "netagent", place, f"{place}/below")
    machine.run("ln", "-s", "/etc/passwd", f"{place}/link")
    asked = (["touch", f"{place}/new"], ["touch", f"{place}/below/x"], ["chown", "root", f"{place}/below"])
    for words in asked:
        assert machine.ask("netagent", *words) == {"returncode": 0, "stdout": "", "stderr": ""}, words
    assert machine.run("stat", "-c", "%U", f"{place}/below", f"{place}/new").stdout == "root\nroot\n"
    assert machine.ask("netagent", "touch", f"{place}/link")["returncode"] == 1
    machine.run("rm", "-r", place)


def test_restarts_under_load(machine: Machine, install: Install) -> None:
    """No client sees a refused connection, or an answer twice; nothing runs twice."""
    service = install()
    pids = set()
    with under_load(machine) as found:
        for _ in range(TIMES):
            machine.systemctl("restart", service)
            pids.add(main_pid(machine, service))
    assert len(pids) == TIMES
    assert found["done"] > TIMES
    print(dict(found))


def test_reloads_under_load(machine: Machine, install: Install) -> None:
    service = install()
    with under_load(machine) as found:
        before = main_pid(machine, service)
        for _ in range(TIMES):
            machine.systemctl("reload", service)
    assert found.keys() == {"done"}
    assert main_pid(machine, service) == before
    # Signals that come while one is being handled are one.
    wait_for(lambda: machine.show(service, "StatusText").startswith("Serving: 7 filters of generation "))
    assert int(machine.show(service, "StatusText").split()[-1]) > TIMES // 2


def test_broken_filters_at_a_reload(machine: Machine, install: Install) -> None:
    service = install()
    machine.ask("netagent", "true")
    path = "/etc/rootwrap-daemon/netagent.filters.d/test.filters"
    machine.write(path, with_filter("bad: NoSuchFilter, true, root"))
    # Whoever reloads is told, and the daemon has nothing to say of it.
    assert machine.run("systemctl", "reload", service, check=False).returncode == 1
    assert machine.show(service, "StatusText") == "Serving: 7 filters of generation 1"
    machine.systemctl("kill", "--kill-whom=main", "-s", "HUP", service)
    kept = "NOT reloaded, the rules of generation 1 stay in force: "
    wait_for(lambda: machine.show(service, "StatusText").startswith(kept))
    assert "'NoSuchFilter' is not a kind of filter" in machine.show(service, "StatusText")
    assert machine.show(service, "ActiveState") == "active"
    assert machine.ask("netagent", "id", "-u")["returncode"] == 0
    # What is logged is written by a thread of its own, whatever the manager has been told.
    wait_for(
        lambda: any("not reloaded" in line and "NoSuchFilter" in line for line in machine.journal(service))
    )
    errors = machine.run("journalctl", "-u", service, "-p", "err", "-o", "cat", "--no-pager").stdout
    assert "not reloaded" in errors
    assert "listening on" not in errors
    machine.write(path, FILTERS)
    machine.systemctl("reload", service)
    wait_for(lambda: machine.show(service, "StatusText") == "Serving: 7 filters of generation 2")


def test_broken_filters_at_a_start_are_mended_without_a_refusal(machine: Machine, install: Install) -> None:
    """Whoever asks meanwhile waits."""
    service = install(filters=with_filter("bad: NoSuchFilter, true, root"))
    asked = subprocess.Popen(
        machine.command(
            PYTHON, f"{INSIDE}/tests/systemd/ask.py", "netagent", "60", "id", "-u", user="netagent"
        ),
        stdout=subprocess.PIPE,
        cwd="/",
    )
    try:
        # More often than systemd's own limits of tries would have it.
        wait_for(lambda: int(machine.show(service, "NRestarts")) >= 6)
        assert machine.show("rootwrap-daemon@netagent.socket", "ActiveState") == "active"
        machine.write("/etc/rootwrap-daemon/netagent.filters.d/test.filters", FILTERS)
        answer, _ = asked.communicate(timeout=60)
    finally:
        asked.kill()
        asked.wait()
    assert json.loads(answer)["stdout"] == "0\n"


@pytest.mark.parametrize("number", ["KILL", "STOP"])
def test_a_daemon_that_is_killed_or_hangs_is_replaced(
    machine: Machine, install: Install, number: str
) -> None:
    service = install()
    machine.write("/run/systemd/system/rootwrap-daemon@.service.d/t.conf", "[Service]\nWatchdogSec=10s\n")
    machine.systemctl("daemon-reload")
    try:
        machine.ask("netagent", "true")
        before = main_pid(machine, service)
        if number == "STOP":
            # Longer than the watchdog's patience: it hears from one that serves.
            time.sleep(11)
            assert main_pid(machine, service) == before
        machine.run("kill", f"-{number}", before)
        assert machine.ask("netagent", "id", "-u", timeout=60)["returncode"] == 0
        assert main_pid(machine, service) != before
        result = "watchdog" if number == "STOP" else "killed"
        assert any(result in line.lower() for line in machine.journal(service))
    finally:
        machine.run("rm", "-r", "/run/systemd/system/rootwrap-daemon@.service.d")
        machine.systemctl("daemon-reload")


@contextmanager
def running(machine: Machine, *argv: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that somebody waits for."""
    process = subprocess.Popen(
        machine.command(PYTHON, f"{INSIDE}/tests/systemd/ask.py", "netagent", "99", *argv, user="netagent"),
        stdout=subprocess.PIPE,
        cwd="/",
    )
    try:
        wait_for(lambda: machine.pids(*argv))
        yield process
    finally:
        process.kill()
        process.wait()


def hurry(machine: Machine) -> None:
    """Let nothing take long at a stop."""
    config = "/etc/rootwrap-daemon/netagent.conf"
    machine.run("sh", "-c", f"printf 'drain_timeout = 1\\nkill_grace = 10\\n' >> {config}")


def test_what_is_in_the_background_lives_on(machine: Machine, install: Install) -> None:
    """A dnsmasq that went into the background survives restart, crash and stop."""
    service = install()
    hurry(machine)
    words = [*DNSMASQ, "--port=5391", "--listen-address=127.0.0.1"]
    assert machine.ask("netagent", *words)["returncode"] == 0
    (dnsmasq,) = machine.pids(*words)
    machine.systemctl("restart", service)
    assert machine.pids(*words) == [dnsmasq]
    machine.run("kill", "-KILL", main_pid(machine, service))
    assert machine.ask("netagent", "true", timeout=60)["returncode"] == 0
    machine.systemctl("stop", service)
    assert machine.show(service, "ActiveState") == "inactive"
    assert machine.pids(*words) == [dnsmasq]
    machine.run("kill", dnsmasq)


def test_what_runs_is_ended_unless_it_may_stay(machine: Machine, install: Install) -> None:
    """At the end of the drain, and by the next start after a crash: before it answers anybody."""
    service = install()
    hurry(machine)
    monitor = ["ip", "monitor", "link"]
    with running(machine, *monitor), running(machine, "sleep", "7777") as asked:
        (stays,) = machine.pids(*monitor)
        machine.systemctl("restart", service)
        answer, _ = asked.communicate(timeout=60)
        assert json.loads(answer)["returncode"] == -15
        assert not machine.pids("sleep", "7777")
        assert machine.pids(*monitor) == [stays]
    with running(machine, *monitor), running(machine, "sleep", "8888"):
        wait_for(lambda: len(machine.pids(*monitor)) == 2)
        left = machine.pids(*monitor)
        # In one go, before the next start, which is a second later.
        look = "kill -KILL $0 && pgrep -x -f '(/.*/)?sleep 8888'"
        assert machine.run("sh", "-c", look, main_pid(machine, service)).stdout
        # Not what has ended, and waits for the machine's first process to reap it.
        sleeping = ["pgrep", "--runstates", "DRST", "-x", "sleep"]
        assert machine.ask("netagent", *sleeping, timeout=60)["returncode"] == 1
        assert machine.pids(*monitor) == left
    machine.run("kill", *left)


def test_all_that_a_command_started_ends_with_it(machine: Machine, install: Install) -> None:
    """At a deadline, and at the next start after a crash; what may stay does, with all that it started."""
    words = "RegExpFilter, setsid, root, setsid, -f, sleep, [0-9]+"
    filters = with_filter(f"away: CommandFilter, sh, root\nfork: {words}")
    service = install(filters=f"{filters}\n[away]\ntimeout = 1\n")
    hurry(machine)
    command = ["sh", "-c", "setsid sleep 6161 & sleep 6262; true"]
    assert machine.ask("netagent", *command)["error"] == "timeout"
    wait_for(lambda: not machine.pids("sleep", "6161"))
    machine.write("/etc/rootwrap-daemon/netagent.filters.d/test.filters", filters)
    machine.systemctl("reload", service)
    with running(machine, *command):
        wait_for(lambda: machine.pids("sleep", "6161"))
        machine.run("kill", "-KILL", main_pid(machine, service))
        assert machine.ask("netagent", "true", timeout=60)["returncode"] == 0
        wait_for(lambda: not machine.pids("sleep", "6161"))
    told = machine.ctl("status", "--json", "--socket", "/run/rootwrap-daemon/netagent.sock").stdout
    assert json.loads(told)["cgroups"] == {"used": True, "why_not": None, "limits": []}
    # What ended by itself leaves what it has started, in a group that does not hinder a restart.
    assert machine.ask("netagent", "setsid", "-f", "sleep", "6363")["returncode"] == 0
    machine.systemctl("restart", service)
    (left,) = machine.pids("sleep", "6363")
    machine.run("kill", left)


def test_two_instances_keep_to_themselves(machine: Machine, install: Install) -> None:
    install()
    install("second", "[Filters]\nuname: RegExpFilter, uname, root, uname\n")
    assert machine.ask("netagent", "id", "-u")["returncode"] == 0
    assert machine.ask("second", "uname", user="second")["stdout"] == "Linux\n"
    assert machine.ask("netagent", "uname")["error"] == "denied"
    assert machine.ask("second", "id", "-u", user="second")["error"] == "denied"
    # The other's socket cannot be connected to; and who could, would not be served.
    assert machine.ask("second", "uname")["error"] == "unavailable"
    assert machine.ask("netagent", "id", "-u", user="second")["error"] == "unavailable"
    machine.run("chmod", "0666", "/run/rootwrap-daemon/second.sock")
    assert machine.ask("second", "uname")["error"] == "unauthorized"


def test_uninstalled_leaves_nothing(machine: Machine) -> None:
    def files() -> set[str]:
        where = ["/etc", "/var/lib", "/run/rootwrap-daemon", "/run/systemd/system"]
        skip = ["*/__pycache__*", "/var/lib/rw/*"]
        tests = [word for path in skip for word in ("-not", "-path", path)]
        found = machine.run("find", *where, *tests, check=False).stdout
        # What is made meanwhile on this host shows in the machine, too: its root lies under the machine's.
        return {path for path in found.splitlines() if not Path(path).exists()}

    log = "/var/log/rootwrap-daemon/netagent.jsonl"
    # A log outlives its instance, and there may have been one. So does the group of sysusers.d(5).
    machine.run("rm", "-f", log)
    machine.ctl("install", "--instance", "netagent", "--user", "netagent")
    machine.run("systemd-sysusers")
    machine.ctl("uninstall", "--instance", "netagent")
    before = files()
    machine.ctl("install", "--instance", "netagent", "--user", "netagent", "--network-agent")
    machine.write("/etc/rootwrap-daemon/netagent.filters.d/a.filters", FILTERS)
    machine.systemctl("daemon-reload")
    machine.systemctl("enable", "--quiet", "--now", "rootwrap-daemon@netagent.socket")
    answer = machine.ask("netagent", "true")
    assert answer.get("returncode") == 0, answer
    # Where nothing else is said, records are in a file, which root alone can read.
    events = [json.loads(line)["event"] for line in machine.run("cat", log).stdout.splitlines()]
    assert events == ["run", "end"]
    assert machine.run("stat", "-c", "%a %U", log, "/var/log/rootwrap-daemon").stdout.split() == [
        *("600", "root"),
        *("700", "root"),
    ]
    refused = machine.ctl("uninstall", "--instance", "netagent", check=False)
    assert refused.returncode == 78 and "disable --now" in refused.stderr
    unit = "rootwrap-daemon@netagent"
    machine.systemctl("disable", "--quiet", "--now", f"{unit}.socket", f"{unit}.service")
    machine.run("rm", "/etc/rootwrap-daemon/netagent.filters.d/a.filters")
    machine.ctl("uninstall", "--instance", "netagent")
    assert files() == before


def test_users_who_come_late(machine: Machine, install: Install) -> None:
    """A user of a directory that is not there yet, and a DynamicUser= that comes and goes."""
    service = install()
    drop_in = "/etc/rootwrap-daemon/netagent.conf.d/late.conf"
    machine.write(drop_in, "[DEFAULT]\nallowed_users = netagent, comes-later, dynamic\n")
    everybody = "/etc/systemd/system/rootwrap-daemon@netagent.socket.d/all.conf"
    machine.write(everybody, "[Socket]\nSocketMode=0666\n")
    agent = [
        *("systemd-run", "--quiet", "--wait", "--pipe", "-p", "DynamicUser=yes", "-p", "User=dynamic"),
        *("-p", "ReadWritePaths=/run/rootwrap-daemon"),
        *(PYTHON, f"{INSIDE}/tests/systemd/ask.py", "netagent", "30", "id", "-u"),
    ]
    try:
        machine.systemctl("daemon-reload")
        machine.systemctl("restart", "rootwrap-daemon@netagent.socket")
        found = machine.ctl("check", "--instance", "netagent", "--format", "concise", check=False).stdout
        assert "there is no 'comes-later' here yet" in found
        assert machine.ask("netagent", "id", "-u")["returncode"] == 0
        assert machine.ask("netagent", "id", "-u", user="second")["error"] == "unauthorized"
        pid = main_pid(machine, service)
        for _ in range(2):
            done = machine.run(*agent)
            assert json.loads(done.stdout).get("stdout") == "0\n", done
            # While it is stopped nobody knows its name, and a reload is none the worse for it.
            assert machine.run("getent", "passwd", "dynamic", check=False).returncode == 2
            machine.systemctl("reload", service)
        machine.run("sh", "-c", "echo comes-later:x:61002:61002::/:/bin/false >> /etc/passwd")
        # Looked for again a second after nobody was found.
        wait_for(lambda: machine.ask("netagent", "id", "-u", user="second").get("returncode") == 0)
        assert main_pid(machine, service) == pid
    finally:
        machine.run("sed", "-i", "/^comes-later:/d", "/etc/passwd")
        machine.run("rm", everybody)
