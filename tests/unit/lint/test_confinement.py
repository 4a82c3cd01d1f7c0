"""What units take from programs, read as systemd.exec(5) has it; and what the drop-ins give back."""

from pathlib import Path

import pytest

from rootwrap_daemon.analysis import unit
from rootwrap_daemon.lint.knowledge import confinement

ROOT = Path(__file__).parents[3]
UNITS = ROOT / "etc/systemd"
SERVICE = (UNITS / "rootwrap-daemon@.service").read_text()
NETWORK = (UNITS / "network-agent.conf").read_text()
GIVE_BACK = UNITS / "give-back"


def of(*lines: str) -> set[str]:
    return set(confinement.taken(["[Service]\n" + "\n".join(lines)]))


@pytest.mark.parametrize("name", confinement.NEEDS)
def test_a_drop_in_gives_back_what_its_name_says_and_no_more(name: str) -> None:
    drop_in = (GIVE_BACK / f"{name}.conf").read_text()
    need = confinement.NEEDS[name]
    assert need.takings & set(confinement.taken([SERVICE, NETWORK])), "nothing takes it"
    for texts in ([SERVICE], [SERVICE, NETWORK]):
        before, after = set(confinement.taken(texts)), set(confinement.taken([*texts, drop_in]))
        assert before - after == before & need.takings
        assert after <= before


def test_every_drop_in_is_known() -> None:
    assert {path.stem for path in GIVE_BACK.iterdir()} == set(confinement.NEEDS)


def test_lists_of_units() -> None:
    assert of("CapabilityBoundingSet=~CAP_SYS_TIME", "CapabilityBoundingSet=CAP_SYS_TIME") == set()
    assert "CAP_SYS_TIME" in of("CapabilityBoundingSet=CAP_SYSLOG")
    assert "CAP_SYSLOG" not in of("CapabilityBoundingSet=CAP_KILL", "CapabilityBoundingSet=CAP_SYSLOG")
    assert of("CapabilityBoundingSet=CAP_KILL", "CapabilityBoundingSet=") == set()
    assert of("SystemCallFilter=~@clock \\", "  @module") == {"@clock", "@module"}
    assert of("SystemCallFilter=~@clock", "# a comment", "SystemCallFilter=@clock") == set()
    assert "@debug" in of("SystemCallFilter=@system-service")
    assert (
        "AF_KEY" in of("RestrictAddressFamilies=AF_UNIX AF_INET") and of("RestrictAddressFamilies=") == set()
    )
    assert of("RestrictAddressFamilies=~AF_KEY") == {"AF_KEY"}
    assert of("RestrictNamespaces=~user") == of("RestrictNamespaces=net mnt") == of("RestrictNamespaces=yes")
    assert of("RestrictNamespaces=yes", "RestrictNamespaces=user") == of("RestrictNamespaces=no") == set()
    assert of("ProtectClock=yes", "ProtectClock=no") == set()
    assert confinement.taken(["[Unit]\nProtectClock=yes\n"]) == {}


@pytest.mark.parametrize(
    ("words", "need"),
    [
        ("date -s 12:00", "clock"),
        ("date 112712002026", "clock"),
        ("date -u", None),
        ("chattr +i /x", "immutable"),
        ("chattr +C /x", None),
        ("chmod u+s /x", "setuid-files"),
        ("chmod 4755 /x", "setuid-files"),
        ("chmod 0755 /x", None),
        ("tar -xf /x", "setuid-files"),
        ("tar -cf /y /z", None),
        ("hostname", None),
        ("hostname new", "hostname"),
        ("lvs --reportformat json", None),
        ("mkdir -m 2775 /x", "setuid-files"),
        ("mkdir --mode=u=rwx,g=rxs /x", "setuid-files"),
        ("mkdir -m 1777 /x", None),
        ("install -d -m 2755 /x", "setuid-files"),
        ("chmod u+s,g+s /x", "setuid-files"),
        ("chmod g-s /x", None),
        ("accton on", "accounting"),
        ("auditctl -s", "audit"),
        ("hciconfig hci0 up", "socket-families"),
        ("pppd plugin pppoe.so eth0", "socket-families"),
        ("pppd /dev/ttyS0", None),
        ("efibootmgr -v", None),
        ("efibootmgr -n 0001", "immutable"),
        ("systemctl reboot -ff", "reboot"),
        ("systemctl reboot", None),
        ("nsenter -t 1 -U", "user-namespaces"),
        ("storcli64 /c0 show", "raw-io"),
    ],
)
def test_what_words_need(words: str, need: str | None) -> None:
    program, *rest = words.split()
    found = confinement.missing(program, rest, confinement.taken([SERVICE]))
    assert (found.need.drop_in if found else None) == need
    if found:
        assert f"--with {need}`" in found.remedy
        assert confinement.missing(program, rest, {}) is None


def test_units_and_drop_ins_are_found_as_systemd_finds_them(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert unit.taken("x", root) == {}

    def put(path: str, *lines: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("[Service]\n" + "".join(f"{line}\n" for line in lines))

    put("usr/lib/systemd/system/rootwrap-daemon@.service", "ProtectClock=yes", "RestrictRealtime=yes")
    assert "realtime" in unit.taken("x", root)
    put("usr/lib/systemd/system/rootwrap-daemon@.service.d/50-a.conf", "RestrictRealtime=no")
    assert "realtime" not in unit.taken("x", root)
    put("etc/systemd/system/rootwrap-daemon@x.service.d/50-a.conf", "ProtectClock=no")
    assert unit.taken("x", root).keys() == {"realtime"}
    assert "CAP_SYS_TIME" in unit.taken("y", root)
    put("etc/systemd/system/rootwrap-daemon@x.service", "LockPersonality=yes")
    assert unit.taken("x", root) == {"personality": ("LockPersonality",)}
    assert unit.instance_of("/etc/rootwrap-daemon/x.conf") == "x"
    assert unit.instance_of("/etc/nova/rootwrap.conf") is None
