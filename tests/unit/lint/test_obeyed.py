"""RW352 and the daemon take the same options of the same programs for those whose value is a file to obey."""

import pytest

from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.subject import Subject, read_filters
from rootwrap_daemon.policy import wrappers
from rootwrap_daemon.policy.behaviour import OBEYS, OBEYS_OPERANDS, obeys
from rootwrap_daemon.policy.getopt import Options

#: Of each program, and with its options: do their values count, or all operands?
ROWS = [(program, table[program], table is OBEYS) for table in (OBEYS, OBEYS_OPERANDS) for program in table]


def is_found(line: str) -> bool:
    read = read_filters(f"[Filters]\nx: {line}\n", "x.filters")
    assert len(read.filters) == 1, read.findings
    return "RW352" in {one.rule for one in judge(Subject((read,)))}


def is_refused(program: str, *words: str) -> bool:
    """What the daemon says where others can change what all words with a slash name."""
    return obeys(f"/usr/bin/{program}", words, {word for word in words if "/" in word}, frozenset())


@pytest.mark.parametrize(("program", "wanted", "valued"), ROWS)
def test_both_know_each_option(program: str, wanted: Options, valued: bool) -> None:
    assert wanted.words
    for option in sorted(wanted.words):
        assert is_found(f"ArgvFilter, {program}, root, {option}, {{path=/srv/x}}"), option
        assert is_refused(program, option, "/srv/x/a"), option
        if valued:
            joined = option + ("=" if len(option) > 2 else "")
            assert is_found(f"RegExpFilter, {program}, root, {program}, {joined}/srv/x/[a-z]+"), option
            assert is_refused(program, f"{joined}/srv/x/a"), option


@pytest.mark.parametrize(
    "behind",
    ["timeout, root, 5", "nice, root", "env, root, A=1", "ip, root, netns, exec, {netns}", "setsid, root"],
)
@pytest.mark.parametrize(("program", "wanted", "valued"), ROWS)
def test_both_know_it_behind_another_program(
    program: str, wanted: Options, valued: bool, behind: str
) -> None:
    option = min(wanted.words)
    assert is_found(f"ArgvFilter, {behind}, {program}, {option}, {{path=/srv/x}}")
    assert not is_found(f"ArgvFilter, {behind}, {program}, {{path=/srv/x}}")
    outer = [word.replace("{netns}", "x") for word in behind.split(", ") if word != "root"]
    words = [*outer[1:], program, option, "/srv/x/a"]
    ran = wrappers.programs(outer[0], words)
    assert any(obeys(name, its, {"/srv/x/a"}, frozenset()) for name, its in ran)


@pytest.mark.parametrize("program", sorted({program for program, *_ in ROWS}))
def test_neither_knows_it_without_an_option(program: str) -> None:
    assert not is_found(f"ArgvFilter, {program}, root, {{path=/srv/x}}")
    assert not is_refused(program, "/srv/x/a")


@pytest.mark.parametrize("words", ["cTf {path=/srv/x} /srv/out", "cfT /srv/out {path=/srv/x}"])
@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_letters_without_a_dash(program: str, words: str) -> None:
    assert is_found(f"ArgvFilter, {program}, root, {words.replace(' ', ', ')}")
    assert is_refused(program, *words.replace("{path=/srv/x}", "/srv/x/a").split())
    plain = words.replace("T", "v")
    assert not is_found(f"ArgvFilter, {program}, root, {plain.replace(' ', ', ')}")
    assert not is_refused(program, *plain.replace("{path=/srv/x}", "/srv/x/a").split())


def test_a_file_of_options() -> None:
    """strings(1) and others take options, and names of files, from what `@` is before."""
    for program in ("strings", "gcc", "ld", "no-such-program"):
        assert is_refused(program, "-n", "9", "@/srv/x/a")
        assert not is_refused(program, "-n", "9", "/srv/x/a")
        assert is_found(f"RegExpFilter, {program}, root, {program}, -n, @/srv/x/[a-z]+")
        assert not is_found(f"RegExpFilter, {program}, root, {program}, -n, /srv/x/[a-z]+")
    # A name like any other, or data.
    for program in ("cat", "curl"):
        assert not is_refused(program, "-d", "@/srv/x/a")
        assert not is_found(f"RegExpFilter, {program}, root, {program}, -d, @/srv/x/[a-z]+")


@pytest.mark.parametrize("words", ["FILE", "-x FILE /srv/x/a", "-euo pipefail FILE", "-O extglob FILE"])
def test_a_script(words: str) -> None:
    def asked(file: str) -> bool:
        return obeys("/bin/bash", words.replace("FILE", file).split(), {"/srv/x/a"}, frozenset())

    assert asked("/srv/x/a")
    assert not asked("/usr/lib/x")
    assert not asked("-c")


@pytest.mark.parametrize(
    "words",
    [
        "bpftool batch file FILE",
        "bun FILE",
        "deno run FILE",
        "ethtool --flash eth0 FILE",
        "fio FILE",
        "hostapd -B FILE",
        "loadkeys FILE",
        "m4 FILE",
        "newusers FILE",
        "node inspect FILE",
        "openssl engine FILE",
        "systemctl link FILE",
        "virsh define FILE",
    ],
)
def test_operands_that_are_code(words: str) -> None:
    program, *its = words.split()
    fields = ", ".join([program, "root", *its]).replace("FILE", "{path=/srv/x}")
    assert is_found(f"ArgvFilter, {fields}")
    assert is_refused(program, *(word.replace("FILE", "/srv/x/a") for word in its))


@pytest.mark.parametrize("words", ["openssl version FILE", "systemctl status FILE"])
def test_operands_that_are_none(words: str) -> None:
    program, *its = words.split()
    fields = ", ".join([program, "root", *its]).replace("FILE", "{path=/srv/x}")
    assert not is_found(f"ArgvFilter, {fields}")


def test_a_script_of_a_version() -> None:
    assert is_refused("python3.11", "/srv/x/a")
    assert not is_refused("python3.11", "-m", "json.tool", "/srv/x/a")
