"""What sudoers gives becomes filters that give no more, for one file of each kind of service."""

import shutil
from pathlib import Path

import pytest
import yaml

from rootwrap_daemon.analysis.sudoers import examples, read, safe, write
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Match, Request
from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.finding import Severity
from rootwrap_daemon.lint.subject import Subject, read_filters
from tests.prepared import CTL

#: Service -> `user`, `sudoers`, commands that it `runs`, words that must be `denied`.
SERVICES = yaml.safe_load(Path(__file__).with_name("sudoers.yaml").read_text())


def rules_of(text: str, user: str) -> RuleSet:
    sudoers = read.read("sudoers", text)
    written = write.text(write.translate(sudoers, [user]), write.lost_settings(sudoers, [user]))
    loaded = filter_file.read(written, "x.filters")
    assert not [one for one in loaded.findings if one.severity.value == "error"], written
    return RuleSet(loaded.filters)


def allows(rules: RuleSet, command: str) -> bool:
    return any(isinstance(one, Match) for one in rules.matches(Request(tuple(command.split(" ")))))


@pytest.mark.parametrize("service", SERVICES)
def test_services(service: str) -> None:
    one = SERVICES[service]
    rules = rules_of(one["sudoers"], one["user"])
    assert len(one["denied"]) == 5
    assert [command for command in one["runs"] if not allows(rules, command)] == []
    assert [command for command in one["denied"] if allows(rules, command)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_policy_tests_hold(service: str) -> None:
    """Each filter's own example is allowed, and denied with more words."""
    user, text = SERVICES[service]["user"], SERVICES[service]["sudoers"]
    rules = rules_of(text, user)
    cases = examples.tests(write.translate(read.read("sudoers", text), [user]), "x")["tests"]
    assert isinstance(cases, list)
    for case in cases:
        assert allows(rules, " ".join(case["argv"])) == (case["expect"] == "allow"), case


def test_what_is_lost_is_said() -> None:
    text = "Defaults secure_path=/x\na h1=(ALL:dba) SETENV:NOEXEC: sha256:abcd /bin/ls -l *, "
    text += "sudoedit /etc/x, /b/* -x\n"
    sudoers = read.read("s", text)
    (listing, edit, pattern) = write.translate(sudoers, ["a"])
    shown = write.text([listing, edit, pattern], write.lost_settings(sudoers, ["a"]))
    for word in (
        "secure_path",
        "the digest",
        "SETENV",
        "as root; sudoers",
        "no program",
    ):
        assert word in shown, word
    assert (edit.definition, pattern.definition) == (None, None)
    assert "group = dba" in shown


@pytest.mark.parametrize(
    "text",
    [
        "a b c ALL=/bin/ls",
        "a ALL",
        "User_Alias x = a",
        "a ALL=",
        "A ALL=/bin/x : h2=/bin/y",
        "a ALL=(root) NOPASSWD:",
    ],
)
def test_a_line_that_is_not_understood_has_its_place(text: str) -> None:
    with pytest.raises(read.NotRead, match=r"^s:3: "):
        read.read("s", f"# c\n\n{text}\n")


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("Cmnd", "a ALL=(root) A17"),
        ("User", "A17 ALL=(root) /bin/x"),
        ("Host", "a A17=(root) /bin/x"),
        ("Runas", "a ALL=(A17) /bin/x"),
    ],
)
def test_aliases_that_double_their_names(kind: str, rule: str) -> None:
    """Seventeen lines that are 131,072 names; in sixty it would take for ever."""
    lines = [f"{kind}_Alias A{number + 1} = A{number}, A{number}" for number in range(17)]
    text = "\n".join([f"{kind}_Alias A0 = /bin/x", *lines, rule, ""])
    with pytest.raises(read.NotRead, match=r"^s:19: names of one rule come to more than 5000:"):
        read.read("s", text)


def test_files_that_include_one_another_twice(tmp_path: Path) -> None:
    for number in range(14):
        (tmp_path / f"f{number}").write_text(f"@include f{number + 1}\n" * 2)
    (tmp_path / "f14").write_text("")
    with pytest.raises(read.NotRead, match="includes come to more than 5000"):
        read.read(str(tmp_path / "s"), "@include f0\n")


def test_aliases_in_a_circle() -> None:
    with pytest.raises(read.NotRead, match="circle"):
        read.read("s", "Cmnd_Alias A = B\nCmnd_Alias B = A\nu ALL=A\n")


def test_included_files(tmp_path: Path) -> None:
    directory = tmp_path / "sudoers.d"
    directory.mkdir()
    (directory / "one").write_text("a ALL=/bin/one\n")
    (directory / "two.bak").write_text("a ALL=/bin/two\n")
    path = tmp_path / "sudoers"
    found = read.read(str(path), "@includedir sudoers.d\na ALL=/bin/three\n")
    assert [(rule.file, rule.command.path) for rule in found.rules] == [
        (str(directory / "one"), "/bin/one"),
        (str(path), "/bin/three"),
    ]


def test_the_command(tmp_path: Path) -> None:
    """The program as it is called: the file loads, its policy tests pass, findings name the route."""
    path = tmp_path / "sudoers"
    path.write_text("a ALL=NOPASSWD: /usr/bin/env -0, /usr/bin/find\n")
    tests = tmp_path / "t.yaml"
    words = ["from-sudoers", str(path), "--tests", str(tests), "--output", str(tmp_path / "x.filters")]
    done = CTL.run(*words)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 rules became a comment alone" in done.stderr
    assert "RW301" in (tmp_path / "x.filters").read_text()
    tried = CTL.run("test", tests)
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_the_example_of_the_help_works(tmp_path: Path) -> None:
    """Its two commands, with a file of sudoers in the place of /etc/sudoers.d/zabbix."""
    (tmp_path / "sudoers").write_text("zabbix ALL=NOPASSWD: /sbin/lvs --noheadings, /sbin/lvs\n")
    shown = CTL.run("from-sudoers", "--help")
    lines = [one.strip() for one in shown.stdout.partition("example:")[2].strip().splitlines()]
    assert len(lines) == 2
    for line in lines:
        words = line.replace("/etc/sudoers.d/zabbix", "sudoers").split()
        assert words[0] == "rootwrapctl"
        done = CTL.run(*words[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_denial_of_what_another_filter_takes() -> None:
    text = "a ALL=(root) NOPASSWD: /opt/x --one, /opt/x, (games) NOPASSWD: /opt/x --one\n"
    done = write.translate(read.read("s", text), ["a"])
    cases = examples.tests(done, "x.filters")["tests"]
    assert isinstance(cases, list)
    assert [(" ".join(one["argv"]), one["run_as"], one["expect"]) for one in cases] == [
        ("/opt/x --one", "root", "allow"),
        ("/opt/x", "root", "allow"),
        ("/opt/x --one", "games", "allow"),
        ("/opt/x --one -- ../x", "games", "deny"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        "/bin/tar *", "/usr/bin/tee *", "/usr/bin/dd *", "/usr/bin/chown x *", "/bin/cp * /etc/nginx/",
        "/bin/cat *", "/usr/bin/install *", "/usr/bin/crontab *", "/usr/sbin/iptables-restore *",
        "/sbin/lvs", "/usr/bin/perl /opt/*", "/usr/bin/dpkg -i *", "/usr/bin/psql -c *",
    ],
)  # fmt: skip
def test_what_has_no_safe_form_is_a_comment_alone(words: str) -> None:
    done = write.translate(read.read("s", f"a ALL={words}\n"), ["a"])
    definition = done[0].definition
    safe.withhold(done)
    assert done[0].definition is None
    shown = write.text(done, ())
    assert filter_file.read(shown, "x.filters").filters == ()
    assert "not written: " in shown
    assert f"#   it would be: {done[0].name}: {definition}\n" in shown


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("a h1=/bin/ls -l", "for h1, and not for h2.example"),
        ("a h1,!h2=/bin/ls -l", "for h1, !h2, and not"),
        ("a ALL,!h2=/bin/ls -l", "for ALL, !h2, and not"),
        ("a ALL,!10.0.0.0/8=/bin/ls -l", "as far as is known"),
        ("a ALL,!+group=/bin/ls -l", "as far as is known"),
        ("a 10.0.0.1=/bin/ls -l", "as far as is known"),
        ("a h2.other=/bin/ls -l", "for h2.other"),
        ("a ALL=NOEXEC: /bin/ls -l", "NOEXEC"),
        ("a ALL=NOEXEC: /bin/x, /bin/ls -l", "NOEXEC"),
        ("a ALL=NOTBEFORE=20300101000000Z /bin/ls -l", "NOTBEFORE=20300101000000Z"),
        ("a ALL=NOTAFTER=20200101000000Z TIMEOUT=5 /bin/x, /bin/ls -l", "NOTAFTER=20200101000000Z"),
        ("a ALL=ROLE=r TYPE=t /bin/ls -l", "ROLE=r, TYPE=t"),
        ("a ALL=CHROOT=/srv /bin/ls -l", "CHROOT=/srv"),
        ("a ALL=CWD=~ /bin/ls -l", "CWD=~"),
        ("a ALL=CWD=* /bin/ls -l", "CWD=*"),
    ],
)
def test_a_filter_that_would_be_wider_than_its_rule_is_a_comment(rule: str, why: str) -> None:
    *_, one = done = write.translate(read.read("s", f"{rule}\n"), ["a"])
    definition = one.definition
    safe.withhold(done, "h2.example")
    assert definition and one.definition is None
    assert why in write.text(done, ())
    assert f"#   it would be: {one.name}: {definition}\n" in write.text(done, ())


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("a h2=/bin/ls -l", []),
        ("a h2.example=/bin/ls -l", []),
        ("a H*=/bin/ls -l", []),
        ("a !h2, h?=/bin/ls -l", []),
        ("a !10.0.0.1, ALL=/bin/ls -l", []),
        ("a ALL, !h1=/bin/ls -l", []),
        ("a ALL=NOEXEC: /bin/x, EXEC: /bin/ls -l", []),
        ("a ALL=TIMEOUT=1d2h3m4s /bin/ls -l", ["timeout = 93784"]),
        ("a ALL=TIMEOUT=20 /bin/x, /bin/ls -l", ["timeout = 20"]),
        ("a ALL=CWD=/srv TIMEOUT=2m /bin/ls -l", ["cwd = /srv", "timeout = 120"]),
    ],
)
def test_what_a_filter_has_as_well_is_taken_over(rule: str, options: list[str]) -> None:
    *_, one = done = write.translate(read.read("s", f"{rule}\n"), ["a"])
    safe.withhold(done, "h2.example")
    assert one.definition == "ArgvFilter, /bin/ls, root, -l"
    assert one.options == options
    assert filter_file.read(write.text(done, ()), "x.filters").findings == ()


def checked(text: str, user: str) -> tuple[list[str], str]:
    """The rules by which `check` warns of what is written, and what that is."""
    sudoers = read.read("sudoers", text)
    done = write.translate(sudoers, [user])
    safe.withhold(done)
    written = write.text(done, write.lost_settings(sudoers, [user]))
    found = judge(Subject((read_filters(written, "x.filters"),)))
    return [one.rule for one in found if one.severity is not Severity.INFO], written


@pytest.mark.parametrize(
    "words",
    [
        "/usr/sbin/tcpdump -i *",
        "/usr/sbin/tcpdump -c 10 -i *",
        "/usr/sbin/tcpdump --interface * -c *",
        "/usr/bin/tshark -i *",
        "/usr/sbin/tcpdump -i [a-z]*",
    ],
)
def test_a_guess_that_check_warns_of_is_a_comment(words: str) -> None:
    """A device that the caller chooses may be any source of packets."""
    rules, written = checked(f"x ALL = NOPASSWD: {words}", "x")
    assert (
        rules == []
        and "#   not written: RW318: " in written
        and "write the devices that are meant" in written
    )
    assert not [line for line in written.splitlines() if line.startswith(("tcpdump", "tshark"))]
    rules, written = checked("x ALL = NOPASSWD: /usr/sbin/tcpdump -i eth[0-9]", "x")
    assert rules == [] and "\ntcpdump: " in written


@pytest.mark.parametrize("service", SERVICES)
def test_check_warns_of_nothing_that_no_note_says(service: str) -> None:
    rules, written = checked(SERVICES[service]["sudoers"], SERVICES[service]["user"])
    assert [rule for rule in rules if f"#   check warns: {rule}: " not in written] == []


def test_what_to_write_instead_is_no_wider_than_the_rule() -> None:
    done = write.translate(read.read("s", "a ALL=/sbin/ip -s link show *\n"), ["a"])
    safe.withhold(done)
    shown = write.text(done, ())
    assert "write the words out, and a type for what varies" in shown
    assert "IpFilter" not in shown


def test_what_obeys_its_input_gets_none() -> None:
    done = write.translate(read.read("s", "a ALL=/usr/bin/psql -l\n"), ["a"])
    safe.withhold(done)
    (one,) = filter_file.read(write.text(done, ()), "x.filters").filters
    assert not one.options.stdin


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("/usr/sbin/iptables -I INPUT -s * -j DROP", "{ip}"),
        ("/usr/bin/psql -d portal -c *", "{any}"),
        ("/usr/bin/dpkg -i *", "{any}"),
        ("/usr/sbin/tcpdump -c 10 -i *", "{ifname}"),
        ("/sbin/wpa_cli -i wlan0 set_network 0 psk *", "{secret}"),
        ("/opt/tool --password *", "{secret}"),
        ("/bin/systemctl *", "{any}"),
        ("/bin/systemctl status *", "{name}"),
        ("/usr/bin/docker run *", "{any}"),
    ],
)
def test_types_by_program_and_word_before(words: str, kind: str) -> None:
    (one,) = write.translate(read.read("s", f"a ALL={words}\n"), ["a"])
    assert kind in str(one.definition).split(", ")
    assert "guessed" in " ".join(one.notes) or kind == "{any}"


def test_nothing_is_left_to_say_of_a_secret_that_was_guessed() -> None:
    done = write.translate(read.read("s", "a ALL=/opt/wifi set_network 0 psk *\n"), ["a"])
    assert not filter_file.read(write.text(done, ()), "x.filters").findings


def test_variables_that_begin_with_a_programs_name_are_its_own() -> None:
    text = 'Defaults env_keep += "RESTIC_REPOSITORY LANG"\na ALL=/bin/restic snapshots, /bin/ls -l\n'
    done = write.translate(read.read("s", text), ["a"])
    assert [one.options for one in done] == [["env = RESTIC_REPOSITORY, LANG"], ["env = LANG"]]


@pytest.mark.parametrize(
    "setting",
    [
        " !requiretty", " !syslog", " umask=022", " env_keep+=A", " some_new_thing", "!/bin/ls env_keep+=A",
        "@host !syslog", ">root umask=022",
    ],
)  # fmt: skip
def test_no_setting_vanishes(setting: str) -> None:
    found = read.read("s", f"Defaults{setting}\na ALL=/bin/ls -l\n")
    (said,) = write.lost_settings(found, ["a"])
    assert said.startswith(f"s:1: {setting.rpartition(' ')[2]}: ")
    assert write.translate(found, ["a"])[0].options == (["env = A"] if setting == " env_keep+=A" else [])


@pytest.mark.skipif(shutil.which("cvtsudoers") is None, reason="sudo's cvtsudoers is not installed")
@pytest.mark.parametrize("service", SERVICES)
def test_sudo_reads_the_same(tmp_path: Path, service: str) -> None:
    one = SERVICES[service]
    (tmp_path / "sudoers").write_text(one["sudoers"])
    words = ["from-sudoers", str(tmp_path / "sudoers"), "--user", one["user"]]
    done = CTL.run(*words)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("cvtsudoers") is None, reason="sudo's cvtsudoers is not installed")
def test_sudo_that_does_not_say_how_it_reads(tmp_path: Path) -> None:
    """Some of its versions write JSON for an option of a rule that is none."""
    (tmp_path / "sudoers").write_text("a ALL = CWD=/tmp /bin/ls -l\n")
    done = CTL.run("from-sudoers", str(tmp_path / "sudoers"), "--user", "a")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or "sudo cannot say how it reads this" in done.stderr


def test_a_program_in_the_root_directory() -> None:
    rules = rules_of("a ALL=/x b*\n", "a")
    assert allows(rules, "/x b1")
    assert allows(rules, "x b1")


@pytest.mark.parametrize("words", ["/bin/x é*", "/bin/x é? a", "/bin/x a\\é*", "/bin/x a*é", "/é/x a*"])
def test_a_part_that_no_pattern_can_have_is_not_left_out(words: str) -> None:
    """The filter would take words that the rule does not."""
    (one,) = write.translate(read.read("s", f"a ALL={words}\n"), ["a"])
    assert one.definition is None
    assert "no filter can say" in " ".join(one.notes)


@pytest.mark.parametrize(
    ("target", "run_as"),
    [
        ("(postgres)", "postgres"),
        ("(postgres, root)", "root|postgres"),
        ("(postgres, backup)", "postgres|backup"),
        ("(ALL)", "root"),
        ("(ALL, !root)", None),
        ("(postgres, !postgres)", None),
        ("(postgres, backup, !postgres)", "backup"),
        ("(postgres, !%dba)", None),
        ("(postgres, %dba)", "postgres"),
        ("(%dba)", None),
        ("(:daemon)", None),
        ("( : daemon)", None),
        ("()", None),
        ("", "root"),
    ],
)
def test_targets(target: str, run_as: str | None) -> None:
    """Each of the users, root first: without -u, sudo means root. None that an exclusion may take away."""
    (one,) = write.translate(read.read("s", f"a ALL={target} NOPASSWD: /bin/ls -l\n"), ["a"])
    assert one.definition == (None if run_as is None else f"ArgvFilter, /bin/ls, {run_as}, -l")
    assert one.notes or run_as is not None


@pytest.mark.parametrize("user", ["zabbix", "%backup"])
def test_for_that_user_alone(tmp_path: Path, user: str) -> None:
    (tmp_path / "s").write_text(f"{user} ALL=(root) NOPASSWD: /bin/ls -l\n")
    done = CTL.run("from-sudoers", tmp_path / "s")
    rules = RuleSet(filter_file.read(done.stdout, "x.filters").filters)
    assert rules.users == {user}
    assert isinstance(rules.match(Request(("/bin/ls", "-l"), asker=frozenset((user,)))), Match)
    assert not isinstance(rules.match(Request(("/bin/ls", "-l"))), Match)


def test_the_policy_tests_need_no_directory_of_the_host(tmp_path: Path) -> None:
    text = (
        'a ALL=(root) NOPASSWD: /bin/chmod 0644 /nowhere/releases/*, /bin/chmod 0755 /bin/*, /bin/true ""\n'
    )
    (tmp_path / "sudoers").write_text(text)
    words = "from-sudoers sudoers --user a --output a.filters --tests a.yaml".split()
    done = CTL.run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "{path=/nowhere/releases}" in (tmp_path / "a.filters").read_text()
    suite = yaml.safe_load((tmp_path / "a.yaml").read_text())
    assert suite["scratch"] == ["/nowhere/releases"]
    assert suite["setup"] == [{"file": "/nowhere/releases/x"}]
    done = CTL.run("test", "a.yaml", cwd=tmp_path)
    assert "/nowhere" not in done.stdout, done.stdout


def test_rules_for_groups_of_somebody_who_is_not_here(tmp_path: Path) -> None:
    """Whether a user of another host is in a group is not known here: it is said, and nothing is given."""
    (tmp_path / "sudoers").write_text("nobody-here ALL=/bin/true\n%staff, b ALL=/bin/ls -l\n")
    done = CTL.run("from-sudoers", "sudoers", "--user", "nobody-here", cwd=tmp_path)
    assert "no user nobody-here here: what %staff may is left out" in done.stderr
    assert "/bin/ls" not in done.stdout


@pytest.mark.skipif(not shutil.which("cvtsudoers"), reason="no sudo")
def test_what_sudo_does_not_read_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "sudoers").write_text("a ALL=/bin/true\na ALL=sha224:abcd /bin/ls ^x$\n")
    done = CTL.run("from-sudoers", "sudoers", cwd=tmp_path)
    assert done.returncode == 2
    assert "sudo does not read it: sudoers:2:" in done.stderr
