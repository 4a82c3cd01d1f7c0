"""daemon/request.py: a peer with more groups than getsockopt(2) takes is known by user and first group."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.root

_SCRIPT = """
import os, socket, sys
from rootwrap_daemon.daemon.request import peer_of
os.setgroups(range(1000, 1000 + int(sys.argv[1])))
ours, theirs = socket.socketpair()
peer = peer_of(ours)
print(peer.uid == os.getuid(), peer.gid == os.getgid(), len(peer.groups))
"""


@pytest.mark.parametrize(("groups", "known"), [(0, 0), (256, 256), (257, 0)])
def test_groups_of_a_peer(groups: int, known: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(groups)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True", str(known)]
