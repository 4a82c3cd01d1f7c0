"""Lines that sudo 1.9.13 wrote to syslog, as filters are proposed from them."""

from pathlib import Path

import pytest

from rootwrap_daemon.analysis import audit_log, sudo_log
from rootwrap_daemon.analysis.audit_log import Record
from rootwrap_daemon.analysis.suggest.suggest import Suggester

HEAD = "Nov 27 13:23:54 host sudo:   zabbix : "
IN = "PWD=/tmp/s ; USER=root ; COMMAND="
#: As observed, but for the name of the user.
SEEN = [
    (IN + "/usr/bin/true", Record(("/usr/bin/true",), "allowed", None, "root", ())),
    (
        IN + r"/usr/bin/true a b 'c d' e\\f  q\'u é",
        Record(("/usr/bin/true", "a", "b", "c d", r"e\f", "", "q'u", "é"), "allowed", None, "root", ()),
    ),
    (IN + "/usr/bin/true a ", Record(("/usr/bin/true", "a", ""), "allowed", None, "root", ())),
    (
        IN + "/bin/sh -c 'echo hi; exit 0'",
        Record(("/bin/sh", "-c", "echo hi; exit 0"), "allowed", None, "root", ()),
    ),
    (
        "TTY=pts/0 ; PWD=/tmp/s ; USER=games ; COMMAND=/usr/bin/true x",
        Record(("/usr/bin/true", "x"), "allowed", None, "games", ()),
    ),
    (
        "PWD=/tmp/s ; USER=root ; ENV=A=b C=d e ; COMMAND=/usr/bin/true",
        Record(("/usr/bin/true",), "allowed", None, "root", ("A", "C")),
    ),
    ("command not allowed ; " + IN + "/usr/bin/id", Record(("/usr/bin/id",), "denied", None, "root", ())),
]
LEFT_OUT = [
    IN + "/usr/bin/true a#011b#012c",
    IN + "/usr/bin/true '; USER=root ; COMMAND=x'",
    "PWD=/x ; USER=root ; COMMAND=/evil ; USER=root ; COMMAND=/usr/bin/true",
    "PWD=/tmp/s ; USER=games ; GROUP=games ; COMMAND=/usr/bin/true",
    IN + "/usr/bin/true 'a",
    IN + "list",
    IN + "sudoedit /etc/hosts",
]
OTHERS = [
    b"",
    b"\xff\xfe",
    b"{",
    b'{"MESSAGE": 1, "SYSLOG_IDENTIFIER": "sudo", "_COMM": "sudo"}',
    b'{"MESSAGE": "x : PWD=/ ; USER=root ; COMMAND=/x", "SYSLOG_IDENTIFIER": "sudo", "_COMM": "logger"}',
    b'{"MESSAGE": "zabbix : PWD=/ ; USER=root ; COMMAND=/x", "SYSLOG_IDENTIFIER": "other"}',
    b"Nov 27 13:23:54 host sudo: pam_unix(sudo:session): session opened for user root(uid=0) by (uid=1)",
    b"Nov 27 13:23:54 host sudo:   zabbix : unknown user nosuch ; PWD=/tmp ; USER=nosuch ; ",
    b"Nov 27 13:23:54 host evil[1]: sudo:   nobody : TTY=a ; PWD=/ ; USER=root ; COMMAND=/usr/bin/zsh",
    b"Nov 27 13:23:54 host nobody: sudo[9]:   nobody : PWD=/ ; USER=root ; COMMAND=/usr/bin/zsh",
    b"x Nov 27 13:23:54 host sudo:   nobody : PWD=/ ; USER=root ; COMMAND=/usr/bin/zsh",
    b" host sudo:   nobody : PWD=/ ; USER=root ; COMMAND=/usr/bin/zsh",
    b"Nov 27 13:23:54 host other:   zabbix : PWD=/tmp ; USER=root ; COMMAND=/usr/bin/true",
]


def read(tmp_path: Path, *lines: str) -> audit_log.Log:
    (tmp_path / "auth.log").write_text("".join(f"{line}\n" for line in lines))
    return audit_log.read([audit_log.Source(str(tmp_path / "auth.log"))])


@pytest.mark.parametrize(("line", "record"), SEEN)
@pytest.mark.parametrize(
    "head", [HEAD, "2026-11-27T13:23:54.123456+00:00 host sudo[123]:   zabbix : ", "{journal}"]
)
def test_what_it_says(tmp_path: Path, head: str, line: str, record: Record) -> None:
    text = head + line
    if head == "{journal}":
        escaped = line.replace("\\", "\\\\")
        text = '{"__REALTIME_TIMESTAMP": "1", "_COMM": "sudo", "SYSLOG_IDENTIFIER": "sudo", '
        text += f'"MESSAGE": "  zabbix : {escaped}"}}'
    log = read(tmp_path, text)
    assert log.records == [record]
    assert not log.left_out


@pytest.mark.parametrize("line", LEFT_OUT)
def test_what_cannot_be_read_for_sure_is_counted(tmp_path: Path, line: str) -> None:
    log = read(tmp_path, HEAD + line)
    assert not log.records
    assert sum(log.left_out.values()) == 1


@pytest.mark.parametrize("data", OTHERS)
def test_no_such_line(data: bytes) -> None:
    assert sudo_log.parse(data) is None


def test_a_command_that_goes_on_is_not_whole(tmp_path: Path) -> None:
    other = HEAD.replace("zabbix", "backup")
    log = read(
        tmp_path,
        HEAD + IN + "/usr/bin/true 1 2",
        other + IN + "/usr/bin/id",
        HEAD + "(command continued) 3 4",
        HEAD + "(command continued) 5",
    )
    assert [one.argv for one in log.records] == [("/usr/bin/id",)]
    assert log.left_out == {"records whose words were cut": 1}


def test_filters_are_proposed(tmp_path: Path) -> None:
    log = read(
        tmp_path,
        HEAD + IN + "/usr/sbin/smartctl -a /dev/sda",
        HEAD + "PWD=/ ; USER=postgres ; COMMAND=/usr/bin/vacuumdb --all",
        HEAD + "command not allowed ; " + IN + "/bin/bash",
    )
    proposal = Suggester(None, everything=False).propose(log.records)
    assert [line.definition for line in proposal.lines] == [
        "ArgvFilter, /usr/sbin/smartctl, root, -a, /dev/sda",
        "ArgvFilter, /usr/bin/vacuumdb, postgres, --all",
    ]
    assert [line.definition for line in proposal.denied] == ["ArgvFilter, /bin/bash, root"]


def test_of_one_user(tmp_path: Path) -> None:
    path = tmp_path / "auth.log"
    path.write_text(f"{HEAD}{IN}/usr/bin/true\n{HEAD.replace('zabbix', 'backup')}{IN}/usr/bin/id\n")
    source = audit_log.Source(str(path))
    assert audit_log.read([source]).callers == {"zabbix", "backup"}
    log = audit_log.read([source], "backup")
    assert ([one.argv for one in log.records], log.callers) == ([("/usr/bin/id",)], {"backup"})
    assert log.left_out == {"lines of sudo about other users": 1}


def test_no_secret_is_written_down(tmp_path: Path) -> None:
    log = read(
        tmp_path,
        HEAD + IN + '/sbin/wpa_cli set_network 0 psk "secret12345"',
        HEAD + "command not allowed ; " + IN + "/bin/x --token secret12345",
        HEAD + IN + "/usr/bin/env A=1 /bin/x --password secret12345",
        HEAD + IN + "/bin/x --password=secret12345",
    )
    assert log.left_out == {"records with a secret taken out": 1}
    proposal = Suggester(None, everything=False).propose(log.records)
    assert [line.definition for line in proposal.lines] == [
        "ArgvFilter, /sbin/wpa_cli, root, set_network, {int}, psk, {secret}"
    ]
    assert proposal.lines[0].examples == (("/sbin/wpa_cli", "set_network", "0", "psk", "***"),)
    assert len(proposal.denied) == len(proposal.problems) == 1
    assert "secret12345" not in repr(proposal)
