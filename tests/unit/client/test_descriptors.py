"""A descriptor that cannot be passed is said to its caller, at once: nothing ran."""

import pwd
import subprocess
import sys

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import BadRequest
from rootwrap_daemon.testing import FakeDaemon

#: The kernel bounds what all processes of a user have sent and nobody has received; but not root's.
MANY = """
import errno, os, resource, socket, sys
if os.getuid() == 0:
    uid = int(sys.argv[1])
    os.setgroups([]), os.setgid(uid), os.setuid(uid)
from rootwrap_daemon.client import PIPE, Client
from rootwrap_daemon.errors import Busy
from rootwrap_daemon.testing import FakeDaemon

with FakeDaemon() as daemon, Client(daemon.path) as client:
    daemon.on(["cat"])
    client.run(["cat"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    ours, theirs = socket.socketpair()
    try:
        while True:
            socket.send_fds(ours, [b"x"], [0] * 10)
    except OSError as error:
        assert error.errno == errno.ETOOMANYREFS, error
    try:
        client.popen(["cat"], stdin=PIPE)
    except Busy as error:
        print(error)
    print(len(daemon.asked))
"""


#: Says what each call comes to while its process has no descriptor left, and after that.
NONE_LEFT = """
import asyncio, os, resource, sys
from rootwrap_daemon.client import PIPE, Client, aio
from rootwrap_daemon.errors import Error

async def popen(client):
    return await client.popen(["cat"], stdout=PIPE)

with Client(sys.argv[1]) as client:
    loop, other = asyncio.new_event_loop(), aio.AsyncClient(sys.argv[1])
    calls = [
        lambda: client.run(["cat"]),
        lambda: client.run(["cat"], capture="pipe"),
        lambda: client.allows(["cat"]),
        lambda: client.popen(["cat"], stdout=PIPE),
        lambda: loop.run_until_complete(other.run(["cat"])),
        lambda: loop.run_until_complete(popen(other)),
    ]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), limits[1]))
    for call in calls:
        try:
            call()
        except Error as error:
            print(error)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    print(client.run(["cat"]).returncode)
    other.close()
    loop.close()
"""


def test_none_left() -> None:
    # In this process, which has descriptors left.
    with FakeDaemon() as daemon:
        daemon.on(["cat"])
        argv = [sys.executable, "-c", NONE_LEFT, daemon.path]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
        assert len(daemon.asked) == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 7, done.stderr
    for line in lines[:-1]:
        assert line.endswith(
            (" can be made: Too many open files", " can be made: Too many open files in system")
        )
    assert lines[-1] == "0"


def test_a_closed_one() -> None:
    with FakeDaemon() as daemon, Client(daemon.path) as client:
        daemon.on(["cat"])
        with pytest.raises(BadRequest, match="not open"):
            client.popen(["cat"], stdin=9999)
        assert daemon.asked == []


def test_more_than_a_user_may_have_under_way() -> None:
    user = pwd.getpwnam("bin").pw_uid
    argv = [sys.executable, "-c", MANY, str(user)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    assert done.stdout == "cat: too many descriptors of this user are under way\n1\n", done.stderr
