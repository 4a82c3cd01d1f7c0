"""filters/kinds.py and filters/read/kinds.py: what each kind refuses at load, and which words it allows."""

import signal

import pytest

from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.patterns import Clock
from rootwrap_daemon.filters.plan import Beneath, ExecPlan, Plan, Program, ReadPlan, SignalPlan, Word
from rootwrap_daemon.filters.read import dangers
from rootwrap_daemon.filters.read.kinds import KINDS
from rootwrap_daemon.filters.values import Match, Request
from rootwrap_daemon.filters.variables import DANGEROUS_VARIABLES, is_dangerous_variable
from tests.unit.filters.lines import errors, match, plan, read, rules

Argv = tuple[str, ...]


def words(*argvs: str) -> list[Argv]:
    """Argvs written as lines of words without blanks in them."""
    return [tuple(argv.split(" ")) for argv in argvs]


def program(name: str, *arguments: Word, run_as: str = "root", env: tuple[tuple[str, str], ...] = ()) -> Plan:
    return ExecPlan(Program(name), arguments, run_as, env)


def test_the_kinds() -> None:
    assert list(KINDS) == [
        "CommandFilter",
        "RegExpFilter",
        "PathFilter",
        "KillFilter",
        "ReadFileFilter",
        "IpFilter",
        "EnvFilter",
        "ChainingFilter",
        "IpNetnsExecFilter",
        "ChainingRegExpFilter",
        "ArgvFilter",
    ]


@pytest.mark.parametrize(
    ("line", "column", "what"),
    [
        # The kind.
        pytest.param("x: DnsmasqFilter, /usr/sbin/dnsmasq, root", 4, "is not a kind", id="kind"),
        pytest.param("x: commandfilter, cat, root", 4, "is not a kind", id="case of the kind"),
        pytest.param("x: Filter, cat, root", 4, "is not a kind", id="the base class"),
        pytest.param("x:  , cat, root", 5, "is not a kind", id="no kind"),
        pytest.param("filters: CommandFilter, cat, root", 1, "named filters", id="name of the section"),
        pytest.param("Default: CommandFilter, cat, root", 1, "named Default", id="name default"),
        # The program, in one kind for all.
        pytest.param("x: CommandFilter, , root", 18, "is not a program", id="program empty"),
        pytest.param(
            "x: CommandFilter, /usr/bin/, root", 19, "is not a program", id="program ends in a slash"
        ),
        pytest.param("x: CommandFilter, /, root", 19, "is not a program", id="program /"),
        pytest.param("x: CommandFilter, ., root", 19, "is not a program", id="program ."),
        pytest.param("x: CommandFilter, /usr/.., root", 19, "is not a program", id="program .."),
        pytest.param("x: CommandFilter, -cat, root", 19, "is not a program", id="program like an option"),
        pytest.param("x: CommandFilter, bin/cat, root", 19, "plain absolute path", id="program relative"),
        pytest.param("x: CommandFilter, ./cat, root", 19, "plain absolute path", id="program in the cwd"),
        pytest.param("x: CommandFilter, /bin/../cat, root", 19, "plain absolute path", id="program with .."),
        pytest.param("x: CommandFilter, /bin/./cat, root", 19, "plain absolute path", id="program with ."),
        pytest.param("x: CommandFilter, /bin//cat, root", 19, "plain absolute path", id="program with //"),
        # The user.
        pytest.param("x: CommandFilter, cat, ", 23, "is not the name of a user", id="user empty"),
        pytest.param("x: CommandFilter, cat, 0", 24, "is not the name of a user", id="user 0"),
        pytest.param("x: CommandFilter, cat, -1", 24, "is not the name of a user", id="user -1"),
        pytest.param(
            "x: CommandFilter, cat, 4294967295", 24, "is not the name of a user", id="user (uid_t)-1"
        ),
        pytest.param("x: CommandFilter, cat, +root", 24, "is not the name of a user", id="user with a sign"),
        pytest.param("x: CommandFilter, cat, ro ot", 24, "is not the name of a user", id="user with a blank"),
        pytest.param("x: CommandFilter, cat, rööt", 24, "is not the name of a user", id="user not ASCII"),
        pytest.param(
            "x: CommandFilter, cat, root/x", 24, "is not the name of a user", id="user with a slash"
        ),
        pytest.param("x: CommandFilter, cat, #0", 24, "a comment after", id="user #0"),
        pytest.param("x: CommandFilter, cat, root # why", 24, "a comment after", id="inline comment"),
        pytest.param("x: CommandFilter, cat, root ; why", 24, "a comment after", id="inline comment ;"),
        # CommandFilter.
        pytest.param("x: CommandFilter", 1, "0 fields after", id="Command: nothing"),
        pytest.param("x: CommandFilter, cat", 1, "1 field after", id="Command: no user"),
        pytest.param("x: CommandFilter, cat, root, -n", 30, "a field too many", id="Command: arguments"),
        pytest.param("x: CommandFilter, cat, root,", 29, "a field too many", id="Command: trailing comma"),
        # RegExpFilter.
        pytest.param("x: RegExpFilter, cat, root", 1, "2 fields after", id="RegExp: no pattern"),
        pytest.param("x: RegExpFilter, cat, root, cat, [", 34, "bad regular", id="RegExp: bad pattern"),
        pytest.param(
            "x: RegExpFilter, cat, root, cat, a{1,3}", 34, "splits the rep", id="RegExp: split {m,n}"
        ),
        pytest.param("x: RegExpFilter, cat, root, cat, (?:a){e}", 34, "a literal {", id="RegExp: fuzzy"),
        pytest.param(
            "x: RegExpFilter, /bin/rm, root, ls, /x", 33, "does not match", id="RegExp: another program"
        ),
        pytest.param("x: RegExpFilter, rm, root, rm.+", 28, "does not match", id="RegExp: longer program"),
        # PathFilter.
        pytest.param("x: PathFilter, chown, root", 1, "2 fields after", id="Path: no argument"),
        pytest.param("x: PathFilter, chown, root, /", 29, "contains everything", id="Path: /"),
        pytest.param("x: PathFilter, chown, root, //", 29, "contains everything", id="Path: //"),
        pytest.param("x: PathFilter, chown, root, /a/..", 29, "plain absolute path", id="Path: .."),
        pytest.param("x: PathFilter, chown, root, /a//b", 29, "plain absolute path", id="Path: //b"),
        pytest.param("x: PathFilter, chown, root, pass, /a/.*", 35, "a regular expression", id="Path: .*"),
        pytest.param("x: PathFilter, p, root, /etc/(?!\\.\\.).*", 25, "a regular expression", id="Path: (?!"),
        pytest.param("x: PathFilter, p, root, /etc/[a]", 25, "a regular expression", id="Path: class"),
        # KillFilter.
        pytest.param("x: KillFilter", 1, "0 fields after", id="Kill: nothing"),
        pytest.param("x: KillFilter, root", 1, "1 field after", id="Kill: no program"),
        pytest.param(
            "x: KillFilter, /usr/bin/sleep, root", 16, "is not the name of a user", id="Kill: swapped"
        ),
        pytest.param("x: KillFilter, root, sleep, 9", 29, "is not a signal", id="Kill: no dash"),
        pytest.param("x: KillFilter, root, sleep, -9, -0", 33, "is not a signal", id="Kill: 0"),
        pytest.param("x: KillFilter, root, sleep, -09", 29, "is not a signal", id="Kill: 09"),
        pytest.param("x: KillFilter, root, sleep, -65", 29, "is not a signal", id="Kill: 65"),
        pytest.param("x: KillFilter, root, sleep, -999", 29, "is not a signal", id="Kill: 999"),
        pytest.param("x: KillFilter, root, sleep, --9", 29, "is not a signal", id="Kill: --9"),
        pytest.param("x: KillFilter, root, sleep, -hup", 29, "is not a signal", id="Kill: case"),
        pytest.param("x: KillFilter, root, sleep, -SIGSIGHUP", 29, "is not a signal", id="Kill: SIGSIG"),
        pytest.param("x: KillFilter, root, sleep, -FOO", 29, "is not a signal", id="Kill: unknown"),
        pytest.param("x: KillFilter, root, sleep, -.*", 29, "is not a signal", id="Kill: pattern"),
        pytest.param("x: KillFilter, root, sleep, -\u0669", 29, "is not a signal", id="Kill: Arabic 9"),
        pytest.param("x: KillFilter, root, sleep, ", 28, "is not a signal", id="Kill: trailing comma"),
        # ReadFileFilter.
        pytest.param("x: ReadFileFilter", 1, "0 fields after", id="ReadFile: nothing"),
        pytest.param("x: ReadFileFilter, ", 19, "plain absolute path", id="ReadFile: empty"),
        pytest.param("x: ReadFileFilter, etc/x", 20, "plain absolute path", id="ReadFile: relative"),
        pytest.param("x: ReadFileFilter, /etc/../x", 20, "plain absolute path", id="ReadFile: .."),
        pytest.param("x: ReadFileFilter, /etc/", 20, "plain absolute path", id="ReadFile: slash at the end"),
        pytest.param("x: ReadFileFilter, /a, /b", 24, "a field too many", id="ReadFile: two"),
        # IpFilter and IpNetnsExecFilter.
        pytest.param("x: IpFilter, ip", 1, "1 field after", id="Ip: no user"),
        pytest.param("x: IpFilter, ip, root, netns", 24, "a field too many", id="Ip: arguments"),
        pytest.param("x: IpFilter, /usr/sbin/tc, root", 14, "is not ip", id="Ip: tc"),
        pytest.param("x: IpFilter, ip6, root", 14, "is not ip", id="Ip: ip6"),
        pytest.param("x: IpNetnsExecFilter, ping, root", 23, "is not ip", id="IpNetnsExec: ping"),
        pytest.param("x: IpNetnsExecFilter, ip, nobody", 27, "needs root", id="IpNetnsExec: nobody"),
        pytest.param(
            "x: IpNetnsExecFilter, ip, root, x", 33, "a field too many", id="IpNetnsExec: arguments"
        ),
        # EnvFilter.
        pytest.param("x: EnvFilter, env, root", 1, "2 fields after", id="Env: nothing"),
        pytest.param("x: EnvFilter, env, root, A=", 1, "no variable, or no program", id="Env: no program"),
        pytest.param("x: EnvFilter, env, root, ls, -l", 1, "no variable", id="Env: no variable"),
        pytest.param("x: EnvFilter, env, root, A=, B=", 1, "no variable", id="Env: only variables"),
        pytest.param("x: EnvFilter, /usr/bin/printenv, root, A=, ls", 15, "is not env", id="Env: printenv"),
        pytest.param("x: EnvFilter, env, root, =x, ls", 26, "is not a variable", id="Env: no name"),
        pytest.param("x: EnvFilter, env, root, A B=, ls", 26, "is not a variable", id="Env: blank in a name"),
        pytest.param("x: EnvFilter, env, root, 1A=, ls", 26, "is not a variable", id="Env: digit first"),
        pytest.param("x: EnvFilter, env, root, Ä=, ls", 26, "is not a variable", id="Env: not ASCII"),
        pytest.param("x: EnvFilter, env, root, A=, A=1, ls", 30, "is not a variable", id="Env: twice"),
        pytest.param("x: EnvFilter, env, root, A=\t1, ls", 26, "is not a variable", id="Env: tab in a value"),
        pytest.param("x: EnvFilter, env, root, A=, bin/ls", 30, "plain absolute path", id="Env: relative"),
        pytest.param("x: EnvFilter, env, root, A=, ls, [", 34, "bad regular", id="Env: bad pattern"),
        # ChainingFilter and ChainingRegExpFilter.
        pytest.param("x: ChainingFilter, nohup", 1, "1 field after", id="Chaining: no user"),
        pytest.param(
            "x: ChainingRegExpFilter, nice, root", 1, "2 fields after", id="ChainingRegExp: no pattern"
        ),
        pytest.param("x: ChainingRegExpFilter, nice, root, n", 38, "does not match", id="ChainingRegExp: n"),
        pytest.param(
            "x: ChainingRegExpFilter, nice, root, nice, [", 44, "bad regular", id="ChainingRegExp: ["
        ),
    ],
)
def test_refused_at_load(line: str, column: int, what: str) -> None:
    found = read("ok: CommandFilter, true, root", line)
    (error,) = errors(found)
    assert what in error.what
    assert (error.location.line, error.location.column) == (3, column)
    assert error.remedy
    assert error.filters == {line.partition(":")[0].lower()}
    assert [one.name for one in found.filters] == ["ok"]


@pytest.mark.parametrize(
    ("line", "allowed", "refused"),
    [
        pytest.param(
            "x: CommandFilter, /bin/cat, root",
            {
                ("cat",): program("/bin/cat"),
                ("/bin/cat", "a", "", "é", "\udcff"): program("/bin/cat", "a", "", "é", "\udcff"),
                ("cat", "`id`;id>/x", "--help"): program("/bin/cat", "`id`;id>/x", "--help"),
            },
            [
                *words("CAT", "/usr/bin/cat", "./cat", "//bin/cat", "/bin/../bin/cat", "/bin/cat/", "cat;id"),
                *words("/tmp/cat", "bin/cat", "c?t", "-", "/proc/self/exe", "sudo cat"),
                *[("cat\n",), (" cat",), ("cat\u200b",), ("\uff43\uff41\uff54",), ("",), ("", "")],
            ],
            id="CommandFilter, path",
        ),
        pytest.param(
            "x: CommandFilter, cat, nobody",
            {("cat", "x"): program("cat", "x", run_as="nobody")},
            words("/bin/cat", "/tmp/cat", "./cat"),
            id="CommandFilter, name",
        ),
        pytest.param(
            r"x: RegExpFilter, /bin/sleep, daemon, sleep, \d+|in.*y",
            {
                ("sleep", "10"): program("/bin/sleep", "10", run_as="daemon"),
                ("sleep", "infinity"): program("/bin/sleep", "infinity", run_as="daemon"),
            },
            [
                *words("sleep", "sleep 1 2", "sleep -1", "/bin/sleep 1", "sleep 1infinity"),
                *[
                    ("sleep", ""),
                    ("sleep", "10\n"),
                    ("sleep", "\u0661\u0662"),
                    ("sleep\n", "1"),
                    ("sleep", "1 --x"),
                ],
            ],
            id="RegExpFilter",
        ),
        pytest.param(
            "x: RegExpFilter, /bin/rm, root, (/bin/)?rm, x",
            {("rm", "x"): program("/bin/rm", "x"), ("/bin/rm", "x"): program("/bin/rm", "x")},
            words("/bin/bin/rm x", "rm"),
            id="RegExpFilter, name and path",
        ),
        pytest.param(
            "x: RegExpFilter, /bin/rm, root, .*, x",
            {("rm", "x"): program("/bin/rm", "x")},
            words("ls x", "/tmp/rm x", "anything x"),
            id="RegExpFilter, pattern of any program",
        ),
        pytest.param(
            "x: PathFilter, /bin/chown, root, nova, pass, /var/lib/images/",
            {
                ("chown", "nova", "a:b", "/var/lib/images/a"): program(
                    "/bin/chown", "nova", "a:b", Beneath("/var/lib/images", "/var/lib/images/a")
                ),
                # Only the host can say what lies where.
                ("/bin/chown", "nova", "", "/etc/../x"): program(
                    "/bin/chown", "nova", "", Beneath("/var/lib/images", "/etc/../x")
                ),
            },
            [
                *words("chown", "chown nova a", "chown nova a /x /y", "chown root a /x", "chown nova a x"),
                *words(
                    "chown nova a ./x", "chown nova --reference=/x /y", "chown nova -R /y", "chown nova - /y"
                ),
                *words("chown nova a file:///var/lib/images/a", "chown nova\n a /x", "chown nova a "),
            ],
            id="PathFilter",
        ),
        pytest.param(
            "x: PathFilter, dd, root, if=/x",
            {("dd", "if=/x"): program("dd", "if=/x")},
            words("dd if=/x/y", "dd /x"),
            id="PathFilter, a literal with a slash",
        ),
        pytest.param(
            "x: KillFilter, root, /usr/bin/sleep, -9, -HUP",
            {
                ("kill", "-9", "123"): SignalPlan(123, 9, Program("/usr/bin/sleep"), "root"),
                ("kill", "-HUP", "2147483647"): SignalPlan(2147483647, 1, Program("/usr/bin/sleep"), "root"),
            },
            [
                *words(
                    "kill",
                    "kill 12",
                    "kill -9",
                    "kill -SIGHUP 12",
                    "kill -1 12",
                    "kill -KILL 12",
                    "kill -s 9 12",
                ),
                *words(
                    "kill -9 -- 12", "kill -9 12 13", "/bin/kill -9 12", "killall -9 sleep", "kill -9 sleep"
                ),
                *words("kill -9 +12", "kill -9 -12", "kill -9 012", "kill -9 1_2", "kill -9 0", "kill -9 -1"),
                *words(
                    "kill -9 0x12",
                    "kill -9 12.0",
                    "kill -9 2147483648",
                    "kill -9 4294967296",
                    "kill -9 ../self",
                ),
                *words("kill -9 18446744073709551615", "kill -9 self", "kill -9 ", "kill -l"),
                *[
                    ("kill", "-9", word)
                    for word in (
                        " 12",
                        "12 ",
                        "12\n",
                        "\t12",
                        "\xa012",
                        "\u0661\u0662",
                        "\uff11\uff12",
                        "12 1",
                    )
                ],
                *[("kill", "-9\n", "12"), ("kill", " -9", "12"), ("kill", "", "12")],
            ],
            id="KillFilter",
        ),
        pytest.param(
            "x: KillFilter, daemon, sleep",
            {("kill", "12"): SignalPlan(12, signal.SIGTERM, Program("sleep"), "daemon")},
            words("kill -15 12", "kill -TERM 12", "kill 0", "kill -1", "kill -9 12"),
            id="KillFilter, none listed",
        ),
        pytest.param(
            "x: KillFilter, root, sleep, -SIGUSR1, -RTMIN, -64",
            {
                ("kill", "-SIGUSR1", "2"): SignalPlan(2, signal.SIGUSR1, Program("sleep"), "root"),
                ("kill", "-RTMIN", "2"): SignalPlan(2, signal.SIGRTMIN, Program("sleep"), "root"),
                ("kill", "-64", "2"): SignalPlan(2, 64, Program("sleep"), "root"),
            },
            words("kill -USR1 2", "kill -34 2", "kill -9 2"),
            id="KillFilter, spellings",
        ),
        pytest.param(
            "x: ReadFileFilter, /etc/x",
            {("cat", "/etc/x"): ReadPlan("/etc/x")},
            [
                *words("cat", "cat /etc/y", "cat /etc/x /etc/shadow", "cat -- /etc/x", "cat -", "tac /etc/x"),
                *words(
                    "cat /etc//x", "cat /etc/x/", "cat etc/x", "cat /etc/./x", "/bin/cat /etc/x", "/etc/x"
                ),
                *[("cat", "/etc/x\n"), ("cat ", "/etc/x"), ("cat", "")],
            ],
            id="ReadFileFilter",
        ),
        pytest.param(
            "x: IpFilter, /sbin/ip, root",
            {
                ("ip",): program("/sbin/ip"),
                ("/sbin/ip", "-s", "link"): program("/sbin/ip", "-s", "link"),
                ("ip", "-n", "a", "addr", "add", "10.0.0.1/8"): program(
                    "/sbin/ip", "-n", "a", "addr", "add", "10.0.0.1/8"
                ),
            },
            words("ip netns exec a sh", "ip -b -", "/tmp/ip link", "ip -l netns netns exec a sh"),
            id="IpFilter",
        ),
        pytest.param(
            "x: EnvFilter, env, root, A=, B=2, /bin/echo",
            {
                ("env", "A=1", "B=2", "echo"): program("/bin/echo", env=(("A", "1"), ("B", "2"))),
                ("env", "B=2", "A=", "/bin/echo", "C=3"): program(
                    "/bin/echo", "C=3", env=(("B", "2"), ("A", ""))
                ),
                ("B=2", "A=1", "echo", "A=3"): program("/bin/echo", "A=3", env=(("B", "2"), ("A", "1"))),
                ("env", "A=x=y z", "B=2", "echo"): program("/bin/echo", env=(("A", "x=y z"), ("B", "2"))),
                ("env", "A=\udcff", "B=2", "echo"): program("/bin/echo", env=(("A", "\udcff"), ("B", "2"))),
            },
            [
                *words(
                    "env",
                    "echo",
                    "A=1 B=2",
                    "A=1 echo",
                    "C=1 A=1 B=2 echo",
                    "env A=1 B=2",
                    "env A=1 echo",
                    "env echo",
                    "env A=1 echo B=2",
                ),
                *words("env A=1 B=3 echo", "env A=1 B= echo", "env A=1 A=1 echo", "env A=1 B=2 A=3 echo"),
                *words(
                    "env A=1 B=2 C=3 echo",
                    "env A=1 B=2 LD_PRELOAD=x echo",
                    "env A=1 C=2 echo",
                    "env A B=2 echo",
                ),
                *words(
                    "env A=1 B=2 /tmp/echo", "env A=1 B=2 sh", "env A=1 B=2 env", "/usr/bin/env A=1 B=2 echo"
                ),
                *words(
                    "env -i A=1 B=2 echo", "env -u A=1 B=2 echo", "env =1 B=2 echo", "env \uff21=1 B=2 echo"
                ),
                *words("/tmp/env A=1 B=2 echo", "printenv A=1 B=2 echo", "env -S A=1 B=2 echo"),
                *[
                    ("env", "A=1\n", "B=2", "echo"),
                    ("env", "A=\x1b", "B=2", "echo"),
                    ("env", "A=\x85", "B=2", "echo"),
                ],
                *[("env", " A=1", "B=2", "echo"), ("env", "A=1", "B=2", ""), ("env", "A=1", "B=2", "echo\n")],
            ],
            id="EnvFilter",
        ),
        pytest.param(
            "x: EnvFilter, /usr/bin/env, nobody, TAG=, haproxy, -f, .*",
            {
                ("env", "TAG=1", "haproxy", "-f", "x"): program(
                    "haproxy", "-f", "x", run_as="nobody", env=(("TAG", "1"),)
                ),
                ("/usr/bin/env", "TAG=1", "haproxy", "-f", ""): program(
                    "haproxy", "-f", "", run_as="nobody", env=(("TAG", "1"),)
                ),
            },
            words(
                "env TAG=1 haproxy -C /tmp -f x",
                "env TAG=1 haproxy -f",
                "env TAG=1 haproxy",
                "env TAG=1 haproxy x -f",
            ),
            id="EnvFilter, arguments",
        ),
        pytest.param("x: ChainingFilter, nohup, root", {}, words("nohup", "nohup true"), id="ChainingFilter"),
        pytest.param(
            r"x: ChainingRegExpFilter, nice, root, nice, -n, \d+",
            {},
            words("nice", "nice -n 5", "nice -n 5 cat"),
            id="ChainingRegExpFilter, no leaf",
        ),
        pytest.param(
            "x: IpNetnsExecFilter, ip, root",
            {},
            words("ip", "ip netns exec a", "ip netns exec a cat", "ip link"),
            id="IpNetnsExecFilter, no leaf",
        ),
    ],
)
def test_words(line: str, allowed: dict[Argv, Plan], refused: list[Argv]) -> None:
    found = rules(line)
    assert {argv: plan(found, *argv) for argv in allowed} == allowed
    assert [argv for argv in refused if plan(found, *argv) is not None] == []


@pytest.mark.parametrize(
    ("line", "column", "what"),
    [
        pytest.param("x: ChainingFilter, nohup, root", 1, "never allows", id="ChainingFilter"),
        pytest.param(
            "x: EnvFilter, env, root, LD_LIBRARY_PATH=, ls", 26, "other code", id="dangerous variable"
        ),
        pytest.param("x: EnvFilter, env, root, A=, PATH=, ls", 30, "other code", id="a second one"),
    ],
)
def test_warnings(line: str, column: int, what: str) -> None:
    found = read(line)
    (warning,) = found.findings
    assert warning.severity is Severity.WARNING
    assert what in warning.what
    assert (warning.location.line, warning.location.column) == (2, column)
    assert len(found.filters) == 1


@pytest.mark.parametrize(
    "line", ["x: EnvFilter, env, root, PATH=/bin, ls", "x: EnvFilter, env, root, LC_ALL=, ls"]
)
def test_a_harmless_variable_is_no_warning(line: str) -> None:
    assert not read(line).findings


@pytest.mark.parametrize(
    "name",
    [
        *(
            "LD_PRELOAD",
            "LD_AUDIT",
            "PYTHONPATH",
            "PERL5LIB",
            "RUBYOPT",
            "BASH_FUNC_x%%",
            "GIT_SSH",
            "IFS",
            "ENV",
        ),
        *(
            "GCONV_PATH",
            "GLIBC_TUNABLES",
            "IP_LIB_DIR",
            "TC_LIB_DIR",
            "LVM_SYSTEM_DIR",
            "OPENSSL_CONF",
            "DEBIAN_FRONTEND",
            "PAGER",
            "SVN_SSH",
            "JAVA_TOOL_OPTIONS",
            "XDG_CONFIG_HOME",
        ),
    ],
)
def test_dangerous_variables(name: str) -> None:
    assert is_dangerous_variable(name)


def test_each_sentence_is_of_a_dangerous_variable() -> None:
    assert all(map(is_dangerous_variable, dangers.DOES))
    assert {dangers.danger_of(name) for name in DANGEROUS_VARIABLES} >= set(dangers.DOES.values())


@pytest.mark.parametrize(
    ("name", "does"),
    [
        ("SVN_SSH", "can run other code"),
        ("LD_PRELOAD", "can run other code"),
        ("SSLKEYLOGFILE", "can have a file written"),
        ("KUBECONFIG", "can name a configuration that runs other code"),
        ("DEBIAN_FRONTEND", "can run other code, as a part of the name of a module"),
        ("SSH_AUTH_SOCK", "can have a server asked with the rights of another"),
        ("HTTPS_PROXY", "can send what a program fetches through another host"),
        ("LC_ALL", None),
    ],
)
def test_what_a_value_can_do(name: str, does: str | None) -> None:
    assert dangers.danger_of(name) == does


@pytest.mark.parametrize("name", ["LC_ALL", "PROCESS_TAG", "path", "XLD_PRELOAD", ""])
def test_other_variables(name: str) -> None:
    assert not is_dangerous_variable(name)
    assert name not in DANGEROUS_VARIABLES


@pytest.mark.parametrize(
    ("line", "argv", "free"),
    [
        ("x: CommandFilter, cat, root", "cat a b", 2),
        ("x: IpFilter, ip, root", "ip -4 link", 2),
        ("x: EnvFilter, env, root, A=, cat", "env A=1 cat a b", 2),
        ("x: EnvFilter, env, root, A=, cat, a, b", "env A=1 cat a b", 0),
        ("x: RegExpFilter, cat, root, cat, .*, .*", "cat a b", 0),
        ("x: PathFilter, cat, root, pass, b", "cat a b", 0),
        ("x: ArgvFilter, cat, root, {any}...", "cat a b", 0),
    ],
)
def test_which_words_may_be_anything(line: str, argv: str, free: int) -> None:
    found = match(rules(line), *argv.split())
    assert isinstance(found, Match)
    assert isinstance(found.plan, ExecPlan)
    assert found.plan.free == free


@pytest.mark.parametrize(
    ("line", "taken", "others"),
    [
        ("RegExpFilter, tool, root, tool, a", "tool a", ("tool", "tool b", "tool a a")),
        (
            "PathFilter, tool, root, pass, b, /x",
            "tool a b /x/y",
            ("tool a", "tool a c /x/y", "tool a b /x/y z"),
        ),
        (
            "KillFilter, root, tool, -9",
            "kill -9 5",
            ("kill -8 5", "kill 5", "kill -9", "kill -9 5 6", "kill"),
        ),
        ("ReadFileFilter, /x", "cat /x", ("cat /y", "cat", "cat /x /x")),
        (
            "EnvFilter, env, root, A=, tool, a",
            "env A=1 tool a",
            ("env A=1 other a", "env A=1", "env", "env tool a"),
        ),
        (
            "EnvFilter, env, root, A=1, tool",
            "env A=1 tool a",
            ("env A=2 tool a", "env B=1 tool a", "env A tool a"),
        ),
        ("ArgvFilter, tool, root, a", "tool a", ("tool", "tool b", "tool a a")),
    ],
)
def test_a_kind_judges_all_words_by_itself(line: str, taken: str, others: tuple[str, ...]) -> None:
    """Filters are looked for by one of their words; what they allow does not depend on it."""
    (one,) = rules(f"x: {line}").filters
    assert one.match(Request(tuple(taken.split())), Clock()) is not None
    for words in others:
        assert one.match(Request(tuple(words.split())), Clock()) is None, words
