"""`openstack.client.Client` has the interface of oslo.rootwrap's, whatever it is given."""

import pytest

from rootwrap_daemon import DEFAULT_SOCKET
from rootwrap_daemon.errors import DaemonUnavailable
from rootwrap_daemon.openstack import SOCKET_VARIABLE, socket_path
from rootwrap_daemon.openstack.client import Client
from tests.real_daemon import Daemon, NewDaemon


def test_results(daemon: Daemon) -> None:
    client = Client(["sudo", "neutron-rootwrap-daemon", "/etc/neutron/rootwrap.conf"], socket=daemon.socket)
    assert client.execute(["sh", "-c", "cat; echo err >&2; exit 3"], "in\udcff") == (3, "in\udcff", "err\n")
    assert client.execute(["sh", "-c", "cat"], stdin=b"bytes") == (0, "bytes", "")
    assert client.execute(["sh", "-c", "kill -9 $$"]) == (-9, "", "")


def test_what_did_not_run(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\nmissing: CommandFilter, /nonexistent/program, root\n")
    client = Client(socket=daemon.socket)
    assert client.execute(["unheard-of"]) == (99, "", "")
    assert client.execute(["program"]) == (96, "", "")


def test_no_daemon() -> None:
    with pytest.raises(DaemonUnavailable, match="/nonexistent"):
        Client(socket="/nonexistent").execute(["true"])


def test_where_the_daemon_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    assert socket_path() == DEFAULT_SOCKET
    monkeypatch.setenv(SOCKET_VARIABLE, "/nonexistent")
    with pytest.raises(DaemonUnavailable, match="/nonexistent"):
        Client().execute(["true"])
