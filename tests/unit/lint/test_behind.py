"""RW315, RW316 and RW322: programs, scripts and users that a caller chooses, and directories, variables."""

import pytest

from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.finding import Severity
from rootwrap_daemon.lint.subject import Subject, read_filters


def found(line: str) -> set[str]:
    read = read_filters(f"[Filters]\nx: {line}\n", "x.filters")
    assert len(read.filters) == 1, read.findings
    return {one.rule for one in judge(Subject((read,)))} & {"RW315", "RW316"}


@pytest.mark.parametrize(
    "line",
    [
        "ArgvFilter, timeout, root, 5, {name}",
        "ArgvFilter, nice, root, {name}",
        "ArgvFilter, env, root, {name}",
        "ArgvFilter, ip, root, netns, exec, {netns}, {name}",
        "ArgvFilter, timeout, root, 5, {=bash|ls}",
        "RegExpFilter, timeout, root, timeout, 5, [a-z]+",
        "RegExpFilter, timeout, root, timeout, 5, (bash|ls)",
        "ArgvFilter, find, root, /etc/hostname, -exec, {name}, \\;",
        "RegExpFilter, env, root, env, [A-Z_]+=[a-z/]+, id",
        "ArgvFilter, sed, root, {name}, /etc/hostname",
        "RegExpFilter, sed, root, sed, -n, [0-9]+[a-z]+, /etc/hostname",
        "ArgvFilter, sed, root, -e, {name}, /etc/hostname",
        "ArgvFilter, python3, root, -m, {name}",
        "ArgvFilter, bash, nobody|root, {name}",
        "ArgvFilter, awk, root, {name}, /etc/hostname",
        "ArgvFilter, su, root, -, {name}",
        "ArgvFilter, sudo, root, -u, {name}, id",
        "ArgvFilter, runuser, root, --user, {name}, id",
        "ArgvFilter, nice, root, setpriv, --reuid, {int}, id",
        "ArgvFilter, nsenter, root, -t, {int}, -m, uptime",
        "RegExpFilter, nsenter, root, nsenter, --target, [0-9]+, -a, uptime",
        "ArgvFilter, strace, root, -p, {int}",
        "ArgvFilter, sed, root, -e, 1p, -e, {name}",
        "ArgvFilter, sed, root, -r, -n, {name}",
        "ArgvFilter, sed, root, -l, 5, {name}",
        "ArgvFilter, dash, root, -ec, {name}",
        "PathFilter, timeout, root, 5, pass",
        "ChainingRegExpFilter, nice, root, nice, [a-z]+",
        "ChainingRegExpFilter, timeout, root, timeout, 5, [a-z]+, [a-z]+",
        "ChainingRegExpFilter, nsenter, root, nsenter, -t, [0-9]+, -m",
        "ArgvFilter, su, root, -c, {name}",
        "ArgvFilter, sg, root, root, {name}",
        "ArgvFilter, i386, root, {name}",
        "ArgvFilter, ssh-agent, root, {name}",
        "ArgvFilter, ld.so, root, {path=/usr/bin}",
        "ArgvFilter, split, root, --filter, {name}, /etc/hostname",
        "ArgvFilter, tcpdump, root, -z, {name}",
        "ArgvFilter, sg, root, root, -c, {name}",
        "ArgvFilter, java, root, -jar, {path=/srv/x}",
        "ArgvFilter, java, root, -cp, {path=/srv/x}, Main",
    ],
)
def test_chosen_by_the_caller(line: str) -> None:
    assert found(line) == {"RW315"}


@pytest.mark.parametrize(
    "line",
    [
        "ArgvFilter, timeout, root, {int}, ls, {name}",
        "ChainingRegExpFilter, timeout, root, timeout, [0-9]+",
        "ChainingRegExpFilter, nice, root, nice, -n, 1?[0-9]",
        "ChainingRegExpFilter, ionice, root, ionice, -c[0-3]",
        "ArgvFilter, nice, root, -n, {int}, ls",
        "ArgvFilter, ip, root, link, set, {ifname}, up",
        "ArgvFilter, sed, root, -n, -e, 1p, {path=/var/lib/nova}",
        "ArgvFilter, sed, root, 1p, {path=/var/lib/nova}",
        "ArgvFilter, sudo, root, -u, {user=nova|cinder}, id",
        "ArgvFilter, timeout, nobody, 5, {name}",
        "ArgvFilter, nsenter, root, -t, {pid=/usr/bin/tail}, -m, uptime",
        "ArgvFilter, tee, root, {path=/var/lib/nova}",
        "ArgvFilter, tee, root, /etc/cron.d/one",
        "ArgvFilter, cat, root, {path=/etc/ssh}",
    ],
)
def test_written_out(line: str) -> None:
    assert found(line) == set()


@pytest.mark.parametrize(
    "words",
    [
        "gdb-multiarch, root, -p, {int}",
        "x86_64-linux-gnu-gdb, root, --pid, {int}",
        "/usr/bin/arm-none-eabi-gdb, root, -batch, -p, {int}",
        "gdb, root, /usr/bin/tail, {int}",
        "gdb-13.2, root, -p, {name}",
        "lldb-16, root, -p, {int}",
        "lldb-server-16, root, gdbserver, --attach, {int}",
        "rust-gdb, root, -p, {int}",
        "dlv, root, attach, {int}",
        "jattach, root, {int}, threaddump",
        "/opt/java/bin/jmap, root, -dump:live, {int}",
        "jcmd, root, {int}, VM.flags",
        "py-spy, root, dump, --pid, {int}",
        "py-spy-0.3, root, dump, --pid, {int}",
        "reptyr, root, {int}",
        "perf_5.10, root, record, -p, {int}",
        "perf, root, stat, --pid, {int}",
        "strace-6.1, root, -f, -p, {int}",
        "ltrace, root, -p, {int}",
        "crash, root, {int}",
        "gcore, root, -a, {int}",
        "criu, root, dump, -t, {int}",
        "timeout, root, 5, gcore, -o, core, {int}",
        "ip, root, netns, exec, {netns}, strace, -p, {int}",
    ],
)
def test_a_process_under_each_name_of_a_debugger(words: str) -> None:
    assert found(f"ArgvFilter, {words}") == {"RW315"}
    program, *rest = words.split(", ")
    pattern = ", ".join(word.replace("{int}", "[1-9][0-9]*").replace("{name}", "[0-9]+") for word in rest[1:])
    pattern = pattern.replace("{netns}", "[a-z]+")
    assert found(f"RegExpFilter, {program}, root, {program}, {pattern}") == {"RW315"}
    chosen = words.replace("{int}", "{pid=/usr/bin/tail}").replace("{name}", "{pid=/usr/bin/tail}")
    assert found(f"ArgvFilter, {chosen}") == set()


@pytest.mark.parametrize(
    "words",
    [
        "prlimit, root, --nofile=4, --pid, {int}",
        "prlimit, root, -p, {int}",
        "renice, root, -n, 5, -p, {int}",
        "ionice, root, -c3, -p, {int}",
        "taskset, root, -p, 1, {int}",
        "chrt, root, -p, 1, {int}",
        "choom, root, -n, 5, -p, {int}",
        "timeout, root, 5, renice, 5, {int}",
        "ip, root, netns, attach, {netns}, {int}",
        "ip, root, netn, att, {netns}, {int}",
        "nsenter, root, -t, {int}, -n, uptime",
        "cgclassify, root, -g, cpu:x, {int}",
    ],
)
def test_a_process_that_is_changed(words: str) -> None:
    """Any process: the text says so, and not that it is a program."""
    read = read_filters(f"[Filters]\nx: ArgvFilter, {words}\n", "x.filters")
    (one,) = (one for one in judge(Subject((read,))) if one.rule == "RW315")
    assert one.problem.what.startswith("{int} stands for any process")
    assert one.problem.instead == "write {pid=PROGRAM}" and one.severity is Severity.WARNING
    assert found(f"ArgvFilter, {words.replace('{int}', '{pid=/usr/bin/tail}')}") == set()


@pytest.mark.parametrize(
    "words",
    [
        "eatmydata, root, {name}",
        "unbuffer, root, -p, {name}, x",
        "doas, root, -n, {name}",
        "start-stop-daemon, root, --start, --exec, {name}",
        "timeout, root, 5, gosu, root, {name}",
        "valgrind, root, {any}",
    ],
)
def test_a_program_that_executes_one_of_its_words(words: str) -> None:
    assert found(f"ArgvFilter, {words}") == {"RW315"}
    assert found(f"ArgvFilter, {words.replace('{name}', 'id').replace('{any}', 'id')}") == set()
    assert found(f"ArgvFilter, {words.replace('{name}', '{int}').replace('{any}', '{ip}')}") == set()


@pytest.mark.parametrize(
    "words",
    [
        "strace, root, -e, {name}, ls",
        "perf, root, stat, -e, {name}, ls",
        "taskset, root, -p, {int}, {pid=/usr/bin/tail}",
        "my-tool, root, -p, {int}",
        "ip, root, netns, add, {netns}",
        "timeout, root, {int}, gcore, {pid=/usr/bin/tail}",
    ],
)
def test_a_number_that_is_no_process(words: str) -> None:
    assert found(f"ArgvFilter, {words}") == set()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("modprobe, root, {name}", True),
        ("modprobe, root, -r, {name}", True),
        ("rmmod, root, {name}", True),
        ("insmod, root, {path=/srv/in}", True),
        ("timeout, root, 5, modprobe, {name}", True),
        ("modprobe, root, {=8021q|br_netfilter}", False),
        ("modprobe, root, -D, {name}", False),
        ("modinfo, root, {name}", False),
    ],
)
def test_a_module_of_the_kernel(words: str, told: bool) -> None:
    read = read_filters(f"[Filters]\nx: ArgvFilter, {words}\n", "x.filters")
    assert ("RW317" in {one.rule for one in judge(Subject((read,)))}) == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("tcpdump, root, -i, {ifname}, -c, {int}", True),
        ("tcpdump, root, --interface, {name}", True),
        ("ip, root, netns, exec, {netns}, tcpdump, -i, {ifname}", True),
        ("tshark, root, -i, {ifname}", True),
        ("tcpdump, root, -i, {=eth0|br0}, -c, {int}", False),
        ("tcpdump, root, -i, eth0, -c, {int}", False),
        ("ip, root, link, show, {ifname}", False),
    ],
)
def test_a_source_of_packets(words: str, told: bool) -> None:
    read = read_filters(f"[Filters]\nx: ArgvFilter, {words}\n", "x.filters")
    assert ("RW318" in {one.rule for one in judge(Subject((read,)))}) == told


@pytest.mark.parametrize(
    "line", ["ArgvFilter, tee, root, {path=/etc/cron.d}", "PathFilter, cp, root, /srv/x, /usr/local/bin"]
)
def test_a_directory_that_root_obeys(line: str) -> None:
    assert found(line) == {"RW316"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ChainingRegExpFilter, env, root, env, [A-Z0-9_]+=[a-z0-9-]+", True),
        ("ChainingRegExpFilter, env, root, env, [A-Z_]+=.*", True),
        ("RegExpFilter, env, root, env, LD_PRELOAD=[a-z]+, ls", True),
        ("RegExpFilter, sudo, root, sudo, (TMPDIR|X)=[a-z]+, ls", True),
        ("RegExpFilter, env, root, env, LD_LIBRARY_PATH=/opt/x, ls", False),
        ("RegExpFilter, env, root, env, COUNT=[0-9]+, ls", False),
        ("RegExpFilter, env, root, env, COUNT_[A-Z]=[0-9]+, ls", False),
        ("RegExpFilter, dd, root, dd, [a-z]+=[0-9]+", False),
    ],
)
def test_variables_among_words(line: str, told: bool) -> None:
    read = read_filters(f"[Filters]\nx: {line}\n", "x.filters")
    assert len(read.filters) == 1, read.findings
    assert ("RW322" in {one.rule for one in judge(Subject((read,)))}) == told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ArgvFilter, chmod, root, {int}, {path=/var/lib/nova}", True),
        ("ArgvFilter, chmod, root, u+s, {path=/var/lib/nova}", True),
        ("ArgvFilter, chmod, root, -R, 4755, {path=/var/lib/nova}", True),
        ("RegExpFilter, chmod, root, chmod, [0-7]+, /var/lib/nova/[a-z]+", True),
        ("ArgvFilter, chmod, root, 0640, {path=/var/lib/nova}", False),
        ("ArgvFilter, chmod, root, g+w, {path=/var/lib/nova}", False),
        ("ArgvFilter, mknod, root, {path=/var/lib/nova}, b, 254, 0", True),
        ("ArgvFilter, mknod, root, {path=/var/lib/nova}, p", False),
        ("ArgvFilter, mknod, root, /dev/net/tun, c, 10, 200", False),
    ],
)
def test_modes_and_devices(line: str, told: bool) -> None:
    read = read_filters(f"[Filters]\nx: {line}\n", "x.filters")
    assert len(read.filters) == 1, read.findings
    assert ("RW350" in {one.rule for one in judge(Subject((read,)))}) == told
