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
