"""policy/wrappers.py: which programs a command executes."""

import random

import pytest

from rootwrap_daemon.filters.plan import ExecPlan, Program, Word
from rootwrap_daemon.policy import behaviour, getopt, wrappers
from rootwrap_daemon.policy.bound import NotBound


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("cat x", "cat"),
        ("nice losetup -f /x", "nice losetup"),
        ("nice -n 5 losetup", "nice losetup"),
        ("nice -5 losetup", "nice losetup"),
        ("nice --adj 5 losetup", "nice losetup"),
        ("nice --adjustment=5 -- losetup", "nice losetup"),
        ("timeout 5 realpath /x", "timeout realpath"),
        ("timeout -k 1 -s KILL 5 realpath", "timeout realpath"),
        ("timeout -k1 --preserve-status 5 realpath", "timeout realpath"),
        ("env -i A=1 B=2 mount x", "env mount"),
        ("env -u A -C / mount", "env mount"),
        ("env -S mount", "env sh"),
        ("/usr/bin/env -iS mount", "/usr/bin/env sh"),
        ("setsid -w sh x", "setsid sh"),
        ("flock /run/lock ip netns add x", "flock ip"),
        ("flock -w 5 /run/lock -c id", "flock sh"),
        ("flock --wait 5 /run/lock id", "flock id"),
        ("stdbuf -o0 -e L cat", "stdbuf cat"),
        ("ionice -c 3 nice timeout 5 sh", "ionice nice timeout sh"),
        ("taskset -c 0-3 cat", "taskset cat"),
        ("setpriv --reuid 0 --no-new-privs cat", "setpriv cat"),
        ("ip netns exec x cat", "ip cat"),
        ("ip -n y netn e x cat", "ip cat"),
        ("ip vrf exec x cat", "ip cat"),
        ("ip link set x", "ip"),
        ("ip -fam inet netns exec x losetup -f", "ip losetup"),
        ("ip -l 3 -br vrf ex x sh", "ip sh"),
        ("ip -all netns exec losetup -f", "ip losetup"),
        ("ip -al n e sh", "ip sh"),
        ("env - A=1 mount x", "env mount"),
        ("nice A=1 mount x", "nice A=1"),
        ("unshare --propagation slave losetup x", "unshare losetup"),
        ("sg disk -c id", "sg sh"),
        ("find /x -name y -exec losetup {} ; -exec rm {} ;", "find losetup rm"),
        ("find /x -exec nice {} ;", "find nice {}"),
        ("find /x -exec timeout 5 env A=1 sed -f {} ; -exec rm {} ;", "find timeout env sed rm"),
        ("find /x -execdir find . -exec cat {} ; ;", "find find cat"),
        ("prlimit --nofile=4 --pid 5", "prlimit"),
        ("chroot --userspec=a /x cat", "chroot cat"),
        ("nice", "nice"),
        ("nice -n", "nice"),
    ],
)
def test_programs(words: str, found: str) -> None:
    program, *rest = words.split()
    texts = [name for name, _ in wrappers.programs(program, rest)]
    # What follows the first shell does not count.
    assert texts[: len(found.split())] == found.split()
    assert "sh" in texts or texts == found.split()


def test_one_file_with_many_names_executes_what_its_first_word_says() -> None:
    assert [name for name, _ in wrappers.programs("busybox", ["nice", "sh", "x"])] == [
        "busybox",
        "nice",
        "sh",
    ]
    assert not wrappers.is_wrapper("busybox") and wrappers.is_wrapper("nice")


def test_each_has_its_own_words() -> None:
    found = dict(wrappers.programs("timeout", ["5", "nice", "-n", "1", "cp", "-a", "x"]))
    assert found["cp"] == ["-a", "x"] and found["nice"] == ["-n", "1", "cp", "-a", "x"]


def plain(plan: ExecPlan) -> int:
    """As `wrappers.elsewhere`, with a look at each word by itself."""
    words = [wrappers.text_of(word) for word in plan.arguments]
    for program, its in ((plan.program.name, words), *((one, words[at:]) for at, one in enumerate(words, 1))):
        if behaviour.changes_tree(program, its):
            wrapper = wrappers._WRAPPERS.get(program.rpartition("/")[2])
            inner = getopt.behind(its, wrapper.valued, wrapper.operands) if wrapper else its
            return len(words) - len(inner) + 1 if inner else len(words)
    return len(words)


def test_the_first_of_a_name_tells_what_each_would() -> None:
    source = random.Random(7)
    words = ("nsenter", "/x/nsenter", "unshare", "chroot", "-m", "-t", "-R", "--root=/", "5", "true", "nice")
    for _ in range(20_000):
        some: list[Word] = list(source.choices(words, k=source.randrange(12)))
        plan = ExecPlan(Program("timeout"), tuple(some), "root")
        assert wrappers.elsewhere(plan) == plain(plan), some


def test_each_program_is_found_once() -> None:
    """One find(1) within another has what that has; or there are 2 ** n ways to n of them."""
    found = [len(words) for _, words in wrappers.programs("find", ["-exec", "find"] * 18 + ["x"])]
    assert found == sorted(found, reverse=True)
    assert len(found) == len(set(found)) == 19
    words = [
        "/",
        "-exec",
        "nice",
        "-n",
        "1",
        "find",
        "-exec",
        "cp",
        "a",
        ";",
        "-exec",
        "timeout",
        "5",
        "rm",
        ";",
    ]
    names = [name for name, _ in wrappers.programs("find", words)]
    assert names == ["find", "nice", "find", "cp", "timeout", "rm"]


@pytest.mark.parametrize("word", ["x", "nsenter", "chroot", "mount"])
def test_words_without_end_are_copied_a_few_times(word: str) -> None:
    count = 2000
    plan = ExecPlan(Program("ip"), (Program("true"), *(word for _ in range(count))), "root")
    assert sum(len(words) for _, words in wrappers.candidates(plan)) < 3 * count


@pytest.mark.parametrize(
    "words",
    [("find", "-exec", "a"), ("nice",), ("env", "A=1"), ("timeout", "5"), ("ip", "netns", "exec", "x")],
)
def test_programs_without_end_are_refused(words: tuple[str, ...]) -> None:
    program, *rest = words * 20
    either: tuple[tuple[Word, ...], ...] = ((*rest,), (Program(program), *rest))
    for arguments in either:
        with pytest.raises(NotBound, match="more than 16 programs"):
            wrappers.of_plan(ExecPlan(Program(program), arguments, "root"))
    few = wrappers.of_plan(ExecPlan(Program(program), (*rest[: 8 * len(words) - 1], "true"), "root"))
    assert 8 <= len(few) <= 10


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("busybox nsenter -m x", ["nsenter"]),
        ("/bin/toybox x chroot nsenter y chroot", ["chroot", "nsenter"]),
        ("nice unshare x", ["unshare"]),
        ("find x -exec /sbin/chroot", ["/sbin/chroot"]),
        ("cat nsenter x", []),
        ("/usr/bin/made-up chroot", []),
    ],
)
def test_words_that_may_be_programs(words: str, found: list[str]) -> None:
    program, *rest = words.split()
    first, *others = wrappers.candidates(ExecPlan(Program(program), tuple(rest), "root"))
    assert first == (program, rest)
    assert [name for name, _ in others] == found
    assert all(its == rest[rest.index(name) + 1 :] for name, its in others)
    inner = ExecPlan(Program("made-up"), (Program("chroot"), "nsenter"), "root")
    assert [name for name, _ in wrappers.candidates(inner)] == ["made-up", "chroot", "nsenter"]
