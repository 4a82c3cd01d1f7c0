"""policy/wrappers.py: which programs a command executes."""

import pytest

from rootwrap_daemon.policy import wrappers


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("cat x", "cat"),
        ("nice losetup -f /x", "nice losetup"),
        ("nice -n 5 losetup", "nice losetup"),
        ("nice -5 losetup", "nice losetup"),
        ("nice --adj 5 losetup", "nice losetup"),
        ("nice --adjustment=5 -- losetup", "nice losetup"),
        ("timeout 5 realpath /x", "timeout realpath"),
        ("timeout -k 1 -s KILL 5 realpath", "timeout realpath"),
        ("timeout -k1 --preserve-status 5 realpath", "timeout realpath"),
        ("env -i A=1 B=2 mount x", "env mount"),
        ("env -u A -C / mount", "env mount"),
        ("env -S mount", "env sh"),
        ("/usr/bin/env -iS mount", "/usr/bin/env sh"),
        ("setsid -w sh x", "setsid sh"),
        ("flock /run/lock ip netns add x", "flock ip"),
        ("flock -w 5 /run/lock -c id", "flock sh"),
        ("flock --wait 5 /run/lock id", "flock id"),
        ("stdbuf -o0 -e L cat", "stdbuf cat"),
        ("ionice -c 3 nice timeout 5 sh", "ionice nice timeout sh"),
        ("taskset -c 0-3 cat", "taskset cat"),
        ("setpriv --reuid 0 --no-new-privs cat", "setpriv cat"),
        ("ip netns exec x cat", "ip cat"),
        ("ip -n y netn e x cat", "ip cat"),
        ("ip vrf exec x cat", "ip cat"),
        ("ip link set x", "ip"),
        ("ip -fam inet netns exec x losetup -f", "ip losetup"),
        ("ip -l 3 -br vrf ex x sh", "ip sh"),
        ("ip -all netns exec losetup -f", "ip losetup"),
        ("ip -al n e sh", "ip sh"),
        ("env - A=1 mount x", "env mount"),
        ("unshare --propagation slave losetup x", "unshare losetup"),
        ("sg disk -c id", "sg sh"),
        ("find /x -name y -exec losetup {} ; -exec rm {} ;", "find losetup rm"),
        ("chroot --userspec=a /x cat", "chroot cat"),
        ("nice", "nice"),
        ("nice -n", "nice"),
    ],
)
def test_programs(words: str, found: str) -> None:
    program, *rest = words.split()
    texts = [name for name, _ in wrappers.programs(program, rest)]
    # What follows the first shell does not count.
    assert texts[: len(found.split())] == found.split()
    assert "sh" in texts or texts == found.split()


def test_each_has_its_own_words() -> None:
    found = dict(wrappers.programs("timeout", ["5", "nice", "-n", "1", "cp", "-a", "x"]))
    assert found["cp"] == ["-a", "x"] and found["nice"] == ["-n", "1", "cp", "-a", "x"]
