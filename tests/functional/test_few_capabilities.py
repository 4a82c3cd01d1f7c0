"""A daemon with few capabilities, as in a container that drops all and adds one; as root, and as another."""

import pwd
import shutil
import subprocess

import pytest

from rootwrap_daemon.errors import Denied
from tests.real_daemon import Daemon, NewDaemon, without_shim

pytestmark = pytest.mark.root

NET_ADMIN = 1 << 12
USER = pwd.getpwnam("daemon")
#: What a container has: one capability that there can ever be, and none that is inherited.
DROPPED = ["unshare", "--net", "setpriv", "--bounding-set=-all,+net_admin"]
AS_ROOT = [*DROPPED, "--inh-caps=-all", "--"]
AS_USER = [
    *DROPPED,
    *("--reuid=daemon", "--regid=daemon", "--clear-groups"),
    *("--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin", "--"),
]
FILTERS = """\
[Filters]
mtu: ArgvFilter, ip, {user}, link, set, dev, lo, mtu, {{int}}
own: RegExpFilter, cat, {user}, cat, /proc/self/status
none: RegExpFilter, head, {user}, head, -n, 50, /proc/self/status
[mtu]
{option} = CAP_NET_ADMIN
[own]
{option} = CAP_NET_ADMIN
"""


def capabilities(status: str) -> dict[str, int]:
    rows = (line.split() for line in status.splitlines() if line.startswith("Cap"))
    return {name.removeprefix("Cap").removesuffix(":"): int(value, 16) for name, value in rows}


@pytest.fixture(params=["native", "tools"])
def way(request: pytest.FixtureRequest) -> list[str]:
    return without_shim() if request.param == "tools" else []


def started(daemon: Daemon, *inside: str) -> Daemon:
    daemon.inside = list(inside)
    daemon.start()
    return daemon


def by_user(new_daemon: NewDaemon, filters: str, **options: str) -> Daemon:
    daemon = new_daemon(filters, start=False, trusted_owners="root, daemon", **options)
    # Its socket, its records.
    shutil.chown(daemon.directory, USER.pw_uid, USER.pw_gid)
    return daemon


def test_root_with_one_capability(new_daemon: NewDaemon, way: list[str]) -> None:
    filters = FILTERS.format(user="root", option="capabilities")
    daemon = started(new_daemon(filters, start=False), *way, *AS_ROOT)
    assert "warning" not in daemon.log.lower()
    with daemon.client() as client:
        assert client.run(["ip", "link", "set", "dev", "lo", "mtu", "1234"]).returncode == 0
        for words in (["cat", "/proc/self/status"], ["head", "-n", "50", "/proc/self/status"]):
            found = capabilities(client.run(words, text=True).stdout)
            assert found == {"Inh": 0, "Prm": NET_ADMIN, "Eff": NET_ADMIN, "Bnd": NET_ADMIN, "Amb": 0}


@pytest.mark.parametrize("options", [{}, {"capabilities": "CAP_NET_ADMIN"}], ids=["as started", "kept"])
def test_another_user_with_an_ambient_capability(
    new_daemon: NewDaemon, options: dict[str, str], way: list[str]
) -> None:
    filters = FILTERS.format(user="daemon", option="ambient")
    daemon = started(by_user(new_daemon, filters, **options), *way, *AS_USER)
    assert "warning" not in daemon.log.lower()
    with daemon.client() as client:
        assert client.run(["ip", "link", "set", "dev", "lo", "mtu", "1234"]).returncode == 0
        every = dict.fromkeys(("Inh", "Prm", "Eff", "Bnd", "Amb"), NET_ADMIN)
        assert capabilities(client.run(["cat", "/proc/self/status"], text=True).stdout) == every
        # What the daemon has is not what its commands have.
        plain = client.run(["head", "-n", "50", "/proc/self/status"], text=True).stdout
        assert capabilities(plain) == {**dict.fromkeys(every, 0), "Bnd": NET_ADMIN}


OWN = ["cat", "/proc/self/status"]


def test_setpriv_does_not_make_the_bounding_set_smaller_without_setpcap() -> None:
    """Debian 12's says nothing, and executes the program with all that there was; others fail."""
    words = [*AS_ROOT, "setpriv", "--bounding-set=-all", *OWN]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0 or capabilities(done.stdout)["Eff"] == NET_ADMIN


@pytest.mark.parametrize("option", ["capabilities", "no_new_privs = yes\ncapabilities"])
@pytest.mark.parametrize("kept", ["none", "CAP_NET_RAW"])
def test_what_cannot_be_kept_from_a_command_is_not_run(
    new_daemon: NewDaemon, option: str, kept: str, way: list[str]
) -> None:
    """With more in the bounding set than a filter leaves, CAP_SETPCAP is needed; and not to be had here."""
    filters = FILTERS.format(user="root", option=option).replace("CAP_NET_ADMIN", kept)
    daemon = new_daemon(filters, start=False, on_finding="skip")
    started(daemon, *way, *AS_ROOT)
    assert daemon.log.count("the daemon was started without CAP_SETPCAP, which this needs") == 2
    with daemon.client() as client:
        with pytest.raises(Denied):
            client.run(OWN)
        assert client.run(["head", "-n", "50", "/proc/self/status"]).returncode == 0


def test_another_user_without_setuid(new_daemon: NewDaemon, way: list[str]) -> None:
    """A tool that stands in for the shim says so by an exit code, which could be the command's."""
    filters = FILTERS.format(user="daemon", option="timeout").replace("CAP_NET_ADMIN", "5")
    daemon = new_daemon(filters, start=False, on_finding="skip")
    started(daemon, *way, *AS_ROOT)
    assert daemon.log.count("without CAP_KILL, CAP_SETGID, CAP_SETUID, which this needs") == 3
    with daemon.client() as client, pytest.raises(Denied):
        client.run(OWN)


def test_a_process_that_cannot_be_looked_at(new_daemon: NewDaemon) -> None:
    """Another user's, without CAP_SYS_PTRACE: the record does not say what the process runs."""
    daemon = started(new_daemon("[Filters]\nstop: KillFilter, root, sleep\n", start=False), *AS_ROOT)
    with subprocess.Popen(["sleep", "1000"], user=USER.pw_uid, group=USER.pw_gid, cwd="/") as process:
        with daemon.client() as client, pytest.raises(Denied, match=r"^kill: no filter allows this command"):
            client.run(["kill", str(process.pid)])
        process.kill()
    detail = f"process {process.pid} cannot be looked at without CAP_SYS_PTRACE"
    assert daemon.audit()[-1]["detail"] == detail
