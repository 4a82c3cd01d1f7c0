"""File systems that the agent itself serves to everybody: user_allow_other of fuse.conf."""

import contextlib
import socket
import subprocess
from pathlib import Path

import pytest

from rootwrap_daemon.errors import Denied
from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.messages import Run
from tests.real_daemon import HELLO, Daemon, NewDaemon, wait_for
from tests.security.slow_files import slow_files
from tests.security.test_hostile_descriptors import AGENT, being

FILTERS = "[Filters]\ncat: ArgvFilter, cat, root, {{path={place}}}\ntrue: CommandFilter, true, root\n"

pytestmark = pytest.mark.root


def daemon_with(new_daemon: NewDaemon, fuse_conf: str | None = None, **options: str) -> tuple[Daemon, Path]:
    """A daemon with a filter of a directory of the agent's, and the directory."""
    daemon = new_daemon(start=False)
    daemon.directory.chmod(0o755)
    place = daemon.directory / "place"
    place.mkdir()
    (place / "file").write_text("content\n")
    (place / "file").chmod(0o644)
    subprocess.run(["chown", "-R", str(AGENT), place], check=True)
    if fuse_conf is not None:
        (daemon.directory / "fuse.conf").write_text(fuse_conf)
        script = f'touch /etc/fuse.conf; mount --bind {daemon.directory}/fuse.conf /etc/fuse.conf; exec "$@"'
        daemon.inside = ["unshare", "--mount", "sh", "-ec", script, "sh"]
    daemon.configure(FILTERS.format(place=place), allowed_users=f"0,{AGENT}", **options)
    daemon.start()
    return daemon, place


@pytest.mark.parametrize("line", ["user_allow_other\n", "  user_allow_other # for sshfs"])
def test_no_place_where_users_serve_files_to_root(new_daemon: NewDaemon, line: str) -> None:
    """What such a file system says of its files would be believed: that they are root's, and fixed."""
    daemon, place = daemon_with(new_daemon, f"mount_max = 10\n{line}", on_finding="skip")
    assert "user_allow_other is set in /etc/fuse.conf" in daemon.log
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0
        with pytest.raises(Denied):
            client.run(["cat", str(place / "file")])


@pytest.mark.parametrize("text", ["", "# user_allow_other\n#user_allow_other\n", "user_allow_others\n"])
def test_places_where_only_root_does(new_daemon: NewDaemon, text: str) -> None:
    daemon, place = daemon_with(new_daemon, text)
    with daemon.client() as client:
        assert client.run(["cat", str(place / "file")]).stdout == b"content\n"


def test_file_system_that_never_answers_holds_up_nobody_else(new_daemon: NewDaemon) -> None:
    """Root mounted it, so no setting of the host tells of it: the agent's turns wait, and no other's."""
    daemon, place = daemon_with(new_daemon, socket_mode="0666")
    request = HELLO + encode(Run((b"cat", bytes(place / "file"))))
    with contextlib.ExitStack() as held, slow_files(place) as files:
        files.silent = True
        with being(AGENT):
            agents = [held.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(8)]
            for agent in agents:
                agent.connect(daemon.socket)
                agent.send(request)
        # As many as it has turns.
        wait_for(lambda: files.waiting == 4)
        with daemon.client() as other:
            for _ in range(8):
                assert other.run(["true"]).returncode == 0
        files.answer()
        for agent in agents:
            agent.settimeout(60)
            answer = b""
            # More than the daemon's Hello.
            while len(answer) <= 4 + int.from_bytes(answer[:4]):
                more = agent.recv(65536)
                assert more, "closed without an answer"
                answer += more
