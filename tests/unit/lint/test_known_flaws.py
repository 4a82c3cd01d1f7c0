"""The known-bad lines of A8 to A12 are found, each by the rule that is about it."""

import re
from pathlib import Path

import pytest

from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.finding import Finding, Severity
from rootwrap_daemon.lint.subject import Subject, read_config, read_filters

TABLE = Path(__file__).parents[4] / "shared" / "known-flaws.md"


def findings(text: str) -> list[Finding]:
    return judge(Subject((read_filters(f"[Filters]\n{text}\n", "x.filters"),)))


def of_config(text: str) -> list[Finding]:
    return judge(Subject((), (read_config(f"[DEFAULT]\n{text}\n", "rootwrap.conf"),)))


def rules(found: list[Finding]) -> dict[str, Severity]:
    return {finding.rule: finding.severity for finding in found}


#: Row -> the line, and the rules that must find it.
LINES = [
    ("A9", "p: CommandFilter, privsep-helper, root", ("RW301", "RW320")),
    (
        "A10",
        "p: PathFilter, privsep-helper, root, --config-file, /etc/(?!\\.\\.).*, --privsep_sock_path, /",
        ("RW310", "RW311", "RW320"),
    ),
    ("A11", "l: EnvFilter, env, root, LC_ALL=C, lvs", ("RW301", "RW321")),
    ("A11", "h: EnvFilter, env, root, PROCESS_TAG=, haproxy, -f, .*", ("RW302", "RW321")),
    ("A12", "a: EnvFilter, env, root, LD_LIBRARY_PATH=, /usr/stonavm/auluref", ("RW322",)),
    ("A12", "l: EnvFilter, env, root, LC_ALL=C, LVM_SYSTEM_DIR=, lvs", ("RW322",)),
    ("A12", "s: RegExpFilter, sh, root, sh, -c, echo '((.|\\n)*)' > /.*", ("RW309", "RW305")),
    ("A12", "h: RegExpFilter, haproxy, root, haproxy, -f, .*", ("RW302",)),
    ("A12", "d: CommandFilter, dnsmasq, root", ("RW301",)),
    ("A12", "k: CommandFilter, keepalived, root", ("RW301",)),
    ("A12", "r: CommandFilter, radvd, root", ("RW301",)),
    ("A12", "o: CommandFilter, ovs-ofctl, root", ("RW301",)),
    ("A12", "o: CommandFilter, ovsdb-client, root", ("RW301",)),
    ("A12", "k: RegExpFilter, kill, root, kill, -\\d+, .*", ("RW331", "RW302")),
    ("A12", "r: RegExpFilter, /bin/rm, root, rm, -r, /etc/netns/qdhcp-[0-9a-z./-]+", ("RW304",)),
    ("A12", "c: RegExpFilter, /bin/cp, root, cp, /tmp/.+, /etc/frr/[a-z]+-[0-9a-f-]+/.+", ("RW304",)),
]


@pytest.mark.parametrize(
    ("row", "line", "expected"), LINES, ids=lambda part: part if part[:1] == "A" else None
)
def test_line(row: str, line: str, expected: tuple[str, ...]) -> None:
    found = rules(findings(line))
    assert set(expected) <= set(found), row


@pytest.mark.parametrize(
    ("line", "rule", "severity"),
    [
        ("d: CommandFilter, dnsmasq, root", "RW301", Severity.ERROR),
        ("d: CommandFilter, dnsmasq, nobody", "RW301", Severity.WARNING),
        ("c: CommandFilter, cat, root", "RW301", Severity.WARNING),
        ("h: RegExpFilter, haproxy, root, haproxy, -f, .*", "RW302", Severity.ERROR),
        ("l: RegExpFilter, ls, root, ls, .*", "RW302", Severity.WARNING),
        ("t: RegExpFilter, tc, root, tc, .*", "RW302", Severity.ERROR),
        ("t: RegExpFilter, tc, root, tc, qdisc, show, dev, .+", "RW302", Severity.WARNING),
        ("c: RegExpFilter, chown, root, chown, nova, /dev/.*", "RW304", Severity.ERROR),
        ("r: RegExpFilter, rm, root, rm, /dev/.*", "RW304", Severity.WARNING),
        (
            "p: RegExpFilter, privsep-helper, root, privsep-helper, --privsep_sock_path, /tmp/.*",
            "RW304",
            Severity.WARNING,
        ),
    ],
)
def test_severity(line: str, rule: str, severity: Severity) -> None:
    assert rules(findings(line))[rule] is severity


@pytest.mark.parametrize("option", ["filters_path", "exec_dirs"])
def test_a8(option: str) -> None:
    found = of_config(f"{option}=/etc/x, /usr/share/nova/rootwrap")
    assert rules(found) == {"RW206": Severity.ERROR}
    assert found[0].replacement == f"{option}=/etc/x,/usr/share/nova/rootwrap"


def test_a8_the_relative_entry_itself() -> None:
    assert rules(of_config("filters_path=/etc/x,share/rootwrap")) == {"RW206": Severity.ERROR}
    assert not of_config("filters_path=/etc/x,/usr/share/nova/rootwrap")


def test_a10_names_the_context() -> None:
    text = (
        "p: RegExpFilter, privsep-helper, root, privsep-helper, --privsep_context, neutron.privileged.default"
    )
    (found,) = (one for one in findings(text) if one.rule == "RW320")
    assert "neutron.privileged.default" in found.problem.what


@pytest.mark.skipif(
    not TABLE.is_file(), reason="../shared/known-flaws.md is not here: it comes with the project"
)
@pytest.mark.parametrize("row", ["A8", "A9", "A10", "A11", "A12"])
def test_the_rows_of_the_table(row: str) -> None:
    """What the table has in code marks is found: the lines as they stand, the commands as patterns."""
    (line,) = re.findall(rf"^\| {row} \|.*$", TABLE.read_text(), re.MULTILINE)
    marked = [text.replace(r"\|", "|") for text in re.findall(r"`([^`]+)`", line)]
    lines = [text if ":" in text.partition(",")[0] else f"x: {text}" for text in marked if "Filter, " in text]
    lines += [f"x: EnvFilter, env, root, {text}, prog" for text in marked if re.fullmatch("[A-Z_]+=", text)]
    words = [text for text in marked if text.partition(" ")[0] in ("sh", "haproxy", "kill", "rm", "cp")]
    for text in words:
        program, *rest = re.findall(r'"[^"]*"|\S+', text)
        if program != "cp":  # an argv that a pattern admits, not the pattern
            fields = ", ".join(part.strip('"') for part in (program, *rest))
            lines.append(f"x: RegExpFilter, {program}, root, {fields}")
    for program in re.findall(r"CommandFilter ([a-z/ -]+)", line):
        lines += [f"x: CommandFilter, {name}, root" for name in program.strip().split(" / ")]
    if row == "A8":
        assert "filters_path=/etc/x, /usr/share/nova/rootwrap" in TABLE.read_text() or "filters_path" in line
        return
    if row == "A9":
        lines.append("x: CommandFilter, privsep-helper, root")
    if row == "A10":
        lines += [f"x: PathFilter, ls, root, {text}" for text in marked if text.startswith("/etc/(")]
    assert lines, f"nothing could be read from {line}"
    for text in lines:
        found = findings(text)
        assert any(one.severity is not Severity.INFO or one.rule == "RW321" for one in found), (
            f"nothing is found in {text}"
        )


def test_an_accidental_range_is_shown_by_what_surprises() -> None:
    line = r"c: RegExpFilter, curl, root, curl, --max-time, \d+, -D-, http://[0-9a-z:./-\[\]\%]+"
    found = next(finding for finding in findings(line) if finding.rule == "RW308")
    assert "; < =" in found.problem.what
    assert "0 1 2" not in found.problem.what


def test_a_named_signal_is_not_said_to_be_refused() -> None:
    found = next(
        finding for finding in findings("k: KillFilter, root, radvd, -HUP") if finding.rule == "RW390"
    )
    assert "plain process numbers" in found.problem.what
