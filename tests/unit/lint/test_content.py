"""RW354: files that root obeys, and what is written into them."""

import pytest

from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.subject import Subject, read_filters


def found(line: str, *more: str) -> bool:
    read = read_filters("\n".join(["[Filters]", f"x: {line}", *more, ""]), "x.filters")
    assert len(read.filters) == 1, read.findings
    return "RW354" in {one.rule for one in judge(Subject((read,)))}


@pytest.mark.parametrize(
    "line",
    [
        "ArgvFilter, tee, root, /etc/sudoers",
        "ArgvFilter, tee, root, -a, /etc/passwd",
        "ArgvFilter, tee, root, /proc/sys/kernel/core_pattern",
        "ArgvFilter, timeout, root, 5, tee, /etc/cron.d/one",
        "RegExpFilter, tee, root, tee, /etc/cron\\.d/one",
        "ArgvFilter, tee, root, {=/run/x/state|/etc/crontab}",
    ],
)
def test_what_a_request_brings(line: str) -> None:
    assert found(line)
    assert not found(line, "[x]", "stdin = no")


@pytest.mark.parametrize(
    "line",
    [
        "ArgvFilter, cp, root, {path=/srv/in}, /etc/nginx/nginx.conf",
        "ArgvFilter, install, root, -m, 0644, {path=/srv/in}, /etc/sudoers.d/x",
        "ArgvFilter, mv, root, {path=/srv/in}, /usr/local/bin/",
        "RegExpFilter, dd, root, dd, if=/srv/in/[a-z]+, of=/etc/shadow",
        "RegExpFilter, cp, root, cp, /srv/in/[a-z]+, /etc/nginx/[a-z]+",
    ],
)
def test_what_is_in_a_file_of_the_callers(line: str) -> None:
    assert found(line)


@pytest.mark.parametrize(
    "line",
    [
        "ArgvFilter, tee, root, /run/x/state",
        "ArgvFilter, cp, root, /usr/share/x/nginx.conf, /etc/nginx/nginx.conf",
        "ArgvFilter, cp, root, /etc/nginx/nginx.conf, {path=/srv/out}",
        "RegExpFilter, dd, root, dd, if=/etc/shadow, of=/srv/out/[a-z]+",
        "ArgvFilter, tee, root, /sys/class/backlight/x/brightness",
        "ArgvFilter, tee, root, /proc/sys/net/ipv4/ip_forward",
        "ArgvFilter, tee, nobody, /etc/cron.d/one",
    ],
)
def test_nothing_that_root_obeys(line: str) -> None:
    assert not found(line)
