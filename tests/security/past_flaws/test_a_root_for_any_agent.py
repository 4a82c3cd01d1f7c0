"""Root for any agent: the attacks of the rows A."""

import os
from pathlib import Path

import msgpack
import pytest

from rootwrap_daemon.errors import BadRequest
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.plan import ExecPlan, Program
from tests.real_daemon import HELLO, Daemon, NewDaemon, frame
from tests.security.past_flaws.attack import (
    IP,
    NETNS,
    NICE,
    SH,
    TRUE,
    errors,
    executable,
    judge,
    outcome,
    plan,
    read,
    rules,
    said,
    use,
)


def test_A1_value_of_an_option_is_not_the_object() -> None:
    judge(
        rules(IP),
        allow=["ip -l 3 link", "ip -n netns link show", "ip -n ns1 netns list"],
        deny=[
            "ip -l netns netns exec ns1 sh -c id",
            "ip -loops netns netns exec ns1 sh",
            "ip -n netns netns exec ns1 sh",
            "ip --netns netns netns exec ns1 sh",
            "ip -rc netns net e ns1 sh",
            "ip -f netns netns exec ns1 sh",
            "ip -s -n netns -d netns exec ns1 sh",
            "ip -n ns1 netns exec netns sh",
        ],
    )


def test_A2_words_of_two_types_are_refused_before_any_filter(shared: Daemon) -> None:
    use(shared, IP)
    attack = [b"ip", b"netns", b"exec", b"ns1", b"sh", b"-c", b"id"]
    for evil in (
        "netns",
        msgpack.ExtType(1, b"netns"),
        {b"__bytes__": b"bmV0bnM="},
        [b"netns"],
        1,
        None,
        True,
    ):
        for number, rest in ((1, [[], None, None]), (2, [[]])):
            answers = said(shared, HELLO + frame([number, [b"ip", evil, *attack[2:]], *rest]))
            assert b"bad_request" in answers, evil
    # Text and bytes become one before they are judged; no mixture is sent.
    with shared.client() as client:
        assert client.allows([b"ip", b"link"]).allowed
        assert client.allows(["ip", "link"]).allowed
        assert not client.allows(attack).allowed
        mixtures: list[list[str | bytes]] = [
            ["ip", b"netns", b"exec", "ns1", "sh"],
            [b"ip", "netns", b"exec"],
        ]
        for mixed in mixtures:
            with pytest.raises(BadRequest):
                client.allows(mixed)


def test_A3_ip_takes_no_batch() -> None:
    judge(
        rules(IP),
        allow=["ip -br link", "ip -f inet -d link"],
        deny=[
            "ip -b FILE",
            "ip -batch -",
            "ip --batch /tmp/x",
            "ip -ba -",
            "ip -force -batch -",
            "ip -fo link",
            "ip -s -b -",
            "ip -4 -bat /dev/stdin",
            # Files, for all that their names look like.
            "ip -b 1",
            "ip -ba 1 link",
            "ip --batch ns1 link",
        ],
    )


def test_A4_ip_vrf_runs_nothing() -> None:
    judge(
        rules(IP),
        allow=["ip vrf show", "ip vrf identify 1"],
        deny=[
            "ip vrf exec default sh -c id",
            "ip vr e default sh",
            "ip -n ns1 vrf exec default sh",
            "ip v ex default id",
            "ip vrf '' default id",
        ],
    )


def test_A5_chain_executes_the_program_of_the_leaf_not_its_namesake() -> None:
    found = rules(NETNS, "cat: CommandFilter, /bin/cat, root")
    judge(
        found,
        allow=["ip netns exec ns1 cat /etc/hosts", "ip netns exec ns1 /bin/cat"],
        deny=[
            "ip netns exec ns1 /tmp/evil/cat",
            "ip netns exec ns1 ./cat",
            "ip netns exec ns1 bin/cat",
            "ip netns exec ns1 /bin/../tmp/evil/cat",
            "ip netns exec ns1 //bin/cat",
        ],
    )
    planned = plan(found, "ip netns exec ns1 cat x")
    assert isinstance(planned, ExecPlan)
    assert planned.arguments[3:] == (Program("/bin/cat"), "x")


def test_A6_chain_of_patterns_executes_the_program_of_the_leaf(shared: Daemon, place: Path) -> None:
    use(shared, NICE, "cat: CommandFilter, cat, root")
    evil = executable(place / "cat", f"touch '{place}/ran'")
    for word in (str(evil), os.path.relpath(evil, "/"), f"/{evil}", "./cat"):
        assert outcome(shared, ["nice", "-n", "5", word, "/etc/hostname"]) == "denied"
    assert not (place / "ran").exists()
    assert outcome(shared, "nice -n 5 cat /etc/hostname") == Path("/etc/hostname").read_bytes()


def test_A7_program_with_the_name_of_an_assignment_is_none(shared: Daemon, place: Path) -> None:
    use(shared, NICE, "env: EnvFilter, env, root, PROCESS_TAG=, printenv")
    evil = executable(place / "PROCESS_TAG=1", f"touch '{place}/ran'")
    for words in ([str(evil), "printenv"], ["env", str(evil), "printenv"]):
        assert outcome(shared, ["nice", "-n", "5", *words]) == "denied"
        assert outcome(shared, words) == "denied"
    assert not (place / "ran").exists()
    # An assignment in the place of the program is one, as if `env` stood before it.
    for before in ("", "env ", "nice -n 5 env "):
        assert outcome(shared, f"{before}PROCESS_TAG=1 printenv PROCESS_TAG") == b"1\n"


def test_A8_blank_after_a_comma_names_no_directory_of_the_starter(
    new_daemon: NewDaemon, tmp_path: Path
) -> None:
    trap = tmp_path / " " / "nonexistent-directory"
    executable(trap / "only-here", "echo ran")
    (trap / "evil.filters").write_text("[Filters]\nid: CommandFilter, id, root\n")
    daemon = new_daemon(start=False)
    daemon.inside = ["env", "-C", str(tmp_path)]
    daemon.configure(
        "[Filters]\nx: CommandFilter, only-here, root\ntrue: CommandFilter, true, root\n",
        filters_path=f"{daemon.directory}/filters.d, /nonexistent-directory",
        exec_dirs="/usr/bin, /bin, /nonexistent-directory",
    )
    daemon.start()
    assert outcome(daemon, "id") == "denied"
    assert outcome(daemon, "only-here") == "executable_not_found"
    assert outcome(daemon, "true") == b""
    for option in ("filters_path", "exec_dirs"):
        daemon.configure(**{option: "/usr/bin,nonexistent-directory"})
        assert not daemon.reload()
        daemon.configure(**{option: "/usr/bin,/usr/../tmp"})
        assert not daemon.reload()
        daemon.configure(filters_path=f"{daemon.directory}/filters.d", exec_dirs="/usr/bin, /bin")


def test_A9_privsep_helper_is_a_program_like_any_other(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\ntrue: CommandFilter, true, root\n", start=False)
    executable(daemon.directory / "bin" / "privsep-helper", "echo ran")
    daemon.configure(exec_dirs=f"{daemon.directory}/bin, /usr/bin, /bin")
    daemon.start()
    attack = "privsep-helper --config-file /tmp/evil --privsep_context evil.ctx --privsep_sock_path /tmp/s"
    assert outcome(daemon, attack) == "denied"
    assert outcome(daemon, f"{daemon.directory}/bin/{attack}") == "denied"
    use(daemon, r"p: RegExpFilter, privsep-helper, root, privsep-helper, --config-file, /etc/[a-z]+\.conf")
    assert outcome(daemon, attack) == "denied"
    assert outcome(daemon, "privsep-helper --config-file /etc/x.conf") == b"ran\n"


def test_A10_pattern_where_a_path_belongs_is_an_error() -> None:
    line = r"p: PathFilter, privsep-helper, root, --config-file, /etc/(?!\.\.).*, --privsep_context, pass"
    (finding,) = errors(line)
    assert finding.startswith("x.filters:2:53: error: a regular expression in a PathFilter")
    for base in ("/etc/*", "/etc/[a-z]", "/etc/.+", "/etc/x$", "/etc/a|b"):
        assert errors(f"p: PathFilter, cat, root, {base}")


def test_A11_values_and_arguments_of_an_environment_filter_count() -> None:
    judge(
        rules(
            "lvs: EnvFilter, env, root, LC_ALL=C, lvs",
            "haproxy: EnvFilter, env, root, PROCESS_TAG=, haproxy, -f, .*",
        ),
        allow=["env LC_ALL=C lvs", "env PROCESS_TAG=1 haproxy -f /x"],
        deny=[
            "env LC_ALL=evil lvs",
            "env LC_ALL= lvs",
            "env LC_ALL=CC lvs",
            "env PROCESS_TAG=1 haproxy -C /tmp -f /tmp/evil.cfg -D",
            "env PROCESS_TAG=1 haproxy -f /x -D",
            "env PROCESS_TAG=1 haproxy",
            "env PROCESS_TAG=1 LC_ALL=C lvs",
        ],
    )


def test_A12_filters_that_give_root_are_warned_of_or_can_be_written_safely(
    shared: Daemon, place: Path
) -> None:
    for name in ("LD_LIBRARY_PATH", "LVM_SYSTEM_DIR"):
        found = read(f"e: EnvFilter, env, root, {name}=, lvs")
        assert [one.severity for one in found.findings] == [Severity.WARNING]
    base = place / "frr"
    (base / "x-1").mkdir(parents=True)
    (base / "x-1" / "conf").write_text("inside")
    (place / "passwd").write_text("outside")
    use(shared, f"cat: ArgvFilter, cat, root, {{path={base}}}", "kill: KillFilter, root, sleep, -9")
    assert outcome(shared, f"cat {base}/x-1/conf") == b"inside"
    assert outcome(shared, f"cat {base}/x-1/../../passwd") == "denied"
    assert outcome(shared, f"cat {base}/../passwd") == "denied"
    assert outcome(shared, ["kill", "-9", f"{os.getpid()} 1"]) == "denied"


def test_A13_abbreviations_and_options_in_front_hide_nothing() -> None:
    judge(
        rules(IP),
        allow=["ip netns list", "ip net add ns1", "ip -s link", "ip n show"],
        deny=[
            *(
                f"ip {kind} {verb} ns1 id"
                for kind in ("net", "netn", "netns")
                for verb in ("e", "ex", "exec")
            ),
            "ip n e ns1 id",
            "ip ne exec ns1 id",
            "ip -s netns exec ns1 id",
            "ip -s -d -4 net e ns1 id",
            "ip -all netns exec id",
            "ip netns '' ns1 id",
        ],
    )


def test_A14_variables_come_from_a_request_only_by_name_in_its_filter(shared: Daemon) -> None:
    use(shared, SH, TRUE, "", "[sh]", "env = GREETING")
    assert outcome(shared, ["sh", "-c", "echo $GREETING"], env={"GREETING": "$(id)"}) == b"$(id)\n"
    for name in ("LD_PRELOAD", "PATH", "GREETING2", "greeting", "BASH_ENV", "IFS"):
        assert outcome(shared, ["sh", "-c", "true"], env={name: "/tmp/x"}) == "environment_denied"
    assert outcome(shared, "true", env={"GREETING": "x"}) == "environment_denied"
    assert outcome(shared, ["sh", "-c", "true"], env={"GREETING": "a\nb"}) == "environment_denied"
