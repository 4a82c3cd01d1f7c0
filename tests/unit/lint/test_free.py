"""Rules about what a caller may choose freely: words, variables, standard input."""

import pytest

from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.subject import Subject, read_filters


def found(line: str, *more: str) -> bool:
    read = read_filters("\n".join(["[Filters]", f"x: ArgvFilter, {line}", *more, ""]), "x.filters")
    assert len(read.filters) == 1, read.findings
    return "RW314" in {one.rule for one in judge(Subject((read,)))}


@pytest.mark.parametrize(
    "line",
    [
        "bash, root",
        "python3, root, -",
        "perl, root",
        "vim, root, -es, {path=/etc/hostname}",
        "awk, root, -f, -",
        "sed, root, -n, -f, -, /etc/hostname",
        "make, root, -f, -",
        "ip, root, -batch, -",
        "xargs, root, -0, chmod, 644",
        "psql, root, -U, {name}",
        "cpio, root, -i, --quiet",
        "tar, root, -xf, -, -C, /srv",
        "chpasswd, root, --help",
        "bash, root, /dev/stdin",
        "sh, root, -s",
        "patch, root, -d, /srv/x",
        "crontab, root, -",
        "nice, root, sh",
        "/usr/bin/env, root, LANG=C, python3.11, -I",
        "tar, root, xf, -",
        "sed, root, --file=-, /etc/hostname",
        "mysql, root, -N, zabbix",
        "bash, root, /proc/self/fd/0",
        "bash, root, -o, pipefail",
        "bash, nobody|root",
        "python3, root, -X, utf8",
        "perl, bin, -I, /usr/lib/x",
        "unshare, root, -n",
        "chroot, root, /",
        "setarch, root, x86_64",
        "su, root",
        "make, root, -f-",
        "awk, root, -f-",
        "curl, root, -K, -",
        "sort, root, --files0-from=-",
        "sysctl, root, -p, -",
        "gdb, root, -c, /dev/null",
        "psql, root, -x",
        "find, root, /srv, -exec, sh, \\;",
        "prlimit, root, --nofile=4096, sh",
        "taskset, root, 3, bash",
    ],
)
def test_obeyed(line: str) -> None:
    assert found(line)
    assert not found(line, "[x]", "stdin = no")


@pytest.mark.parametrize(
    "line",
    [
        "tee, root, /run/x/y",
        "tar, root, -cf, -, -C, /srv, x",
        "sed, root, -n, -e, p, -",
        "mysql, root, -e, show processlist",
        "vtysh, root, -c, show version",
        "ip, root, link, set, {ifname}, up",
        "nice, root, ls",
        "iptables-restore, root, -n",
        "timeout, root, 5, dd, of=/run/x/y",
        "prlimit, root, --nofile=4096, --pid, {pid=/usr/sbin/dnsmasq}",
        "renice, root, -n, {int=0-19}, -p, {pid=/usr/sbin/dnsmasq}",
    ],
)
def test_data(line: str) -> None:
    assert not found(line)


def test_of_what_is_not_known() -> None:
    for line in ("i386, root, bash", "tclsh8.6, root", "frobnicate, root, --size, {int}"):
        assert found(line)
        assert not found(line, "[x]", "stdin = no")


@pytest.mark.parametrize(
    ("line", "more", "rules"),
    [
        ("cat, root, {secret}", (), {"RW302"}),
        ("tool, root, -n, {secret}", (), {"RW302"}),
        ("tool, root, --password, {secret}", (), set()),
        ("tool, root, a", ("[x]", "env = SYSTEMD_UNIT_PATH={secret}"), {"RW323"}),
        ("tool, root, a", ("[x]", "env = FOO={any}"), {"RW323"}),
        ("tool, root, a", ("[x]", "env = FOO={name}"), set()),
        ("tool, root, a", ("[x]", "env = DEBIAN_FRONTEND"), {"RW322"}),
        ("tool, root, a", ("[x]", "env = DEBIAN_FRONTEND={name}"), {"RW322"}),
        ("tool, root, a", ("[x]", "env = DEBIAN_FRONTEND={=noninteractive|teletype}"), set()),
    ],
)
def test_what_may_be_anything(line: str, more: tuple[str, ...], rules: set[str]) -> None:
    read = read_filters("\n".join(["[Filters]", f"x: ArgvFilter, {line}", *more, ""]), "x.filters")
    assert len(read.filters) == 1, read.findings
    assert {one.rule for one in judge(Subject((read,)))} - {"RW405", "RW314"} == rules
