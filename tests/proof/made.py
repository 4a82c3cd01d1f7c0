"""Make values out of bytes, so that a fuzzer that changes bytes changes the values a little."""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from tests.proof.reference import Made, Node, takes

T = TypeVar("T")


class Source:
    """Bytes that choices are made with; when they are used up, every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.index = 0

    def byte(self) -> int:
        """The next byte, 0 at the end."""
        self.index += 1
        return self.data[self.index - 1] if self.index <= len(self.data) else 0

    @property
    def left(self) -> int:
        return max(0, len(self.data) - self.index)

    def number(self, most: int) -> int:
        """A number from 0 to `most`, at most 65535."""
        return (self.byte() if most < 256 else self.byte() * 256 + self.byte()) % (most + 1)

    def choose(self, values: Sequence[T]) -> T:
        return values[self.number(len(values) - 1)]

    def several(self, make: Callable[[], T], most: int) -> list[T]:
        return [make() for _ in range(self.number(most))]

    def some(self, most: int) -> bytes:
        """Some of the next bytes as they are."""
        count = min(self.number(most), self.left)
        self.index += count
        return self.data[self.index - count : self.index]

    def rest(self) -> bytes:
        """All that is left."""
        return self.bytes_from(self.index)

    def bytes_from(self, index: int) -> bytes:
        self.index = len(self.data)
        return self.data[index:]


#: Words that filters name, and what an attacker says instead of them.
WORDS: Final = (
    *"""
    a b show add - -- -n --x=1 -9 -s -HUP HUP 0 1 9 09 007 -1 4711 99999999999 2147483648 1.2.3.4 01.2.3.4
    ::1 fe80::1%eth0 10.0.0.0/8 10.0.0.0/33 aa:bb:cc:dd:ee:ff eth0 eth0:1 .. . / /etc /etc/passwd /etc/../x
    /tmp/x a/b A=1 A= B=2 A=1=2 =1 netns net n exec e ns1 0x1f 12 name_1.x- cat ip ls /bin/ls /usr/bin/ip env
    kill nice true 123e4567-e89b-12d3-a456-426614174000
    """.split(),
    "",
    "a b",
    "a\n",
    "\t",
    "é",
    "\u202e",
    "\udcff",
    "٣",
    "x" * 300,
    "#a",
    ";",
    "[a]",
    "{a}",
    "a,b",
    "a|b",
    "a\\b",
    "...",
)
#: Those that a definition can name as they are.
PLAIN: Final = tuple(
    word for word in WORDS if word and word.isascii() and word.isprintable() and len(word) < 50
)
PROGRAMS: Final = ("ip", "cat", "ls", "/bin/ls", "/usr/bin/ip", "nice", "a", "env")
#: The new kind twice: it has the most to say.
KINDS: Final = (
    *(
        "ArgvFilter",
        "CommandFilter",
        "RegExpFilter",
        "PathFilter",
        "KillFilter",
        "ReadFileFilter",
        "EnvFilter",
    ),
    *("ChainingRegExpFilter", "IpNetnsExecFilter", "ArgvFilter"),
)
USERS: Final = ("root", "nobody")
PATTERNS: Final = (
    "a", ".*", "[0-9]+", r"\d", r"\w+", "(a|b)", "-?[a-z]{2}", "[^/]*", "a?", "show|add", r"\S", "(?i:A)",
    r"/etc/.+", "[a-z0-9.:-]+", "(?!-).*", r"[\x00-\x7f]*", "a$", "^a", r"a\b.*",
)  # fmt: skip
TYPES: Final = (
    ("int", ""), ("int", "1-12"), ("int", "-3-3"), ("ipv4", ""), ("ipv6", ""), ("ip", ""), ("cidr", ""),
    ("mac", ""),
    ("uuid", ""), ("ifname", ""), ("name", ""), ("netns", ""), ("any", ""), ("secret", ""), ("path", "/etc"),
    ("pid", "cat"),
)  # fmt: skip
VARIABLES: Final = ("A", "B", "LD_PRELOAD", "PATH", "BASH_FUNC_x%%", "", "A=", "a\n")
VALUES: Final = ("1", "", "x", "/tmp/x.so", "é", "\n", "\udcff", "a b", "99", "() { :; }")


def node(source: Source, depth: int = 0) -> Node:
    """A part of an ArgvFilter's pattern."""
    repeated = source.number(4) == 1
    match source.number(5 if depth < 3 else 3):
        case 0 | 1:
            return Node("word", _argv_word(source), repeated=repeated)
        case 2:
            words = dict.fromkeys(_argv_word(source) for _ in range(1 + source.number(3)))
            return Node("choice", "\0".join(words), repeated=repeated)
        case 3:
            kind, parameter = source.choose(TYPES)
            return Node(kind, parameter, repeated=repeated)
        case _:
            pass
    parts = tuple(node(source, depth + 1) for _ in range(1 + source.number(2)))
    return Node("group", "", parts, optional=True, repeated=repeated)


def _argv_word(source: Source) -> str:
    return source.choose([word for word in PLAIN if not word.endswith("...")])


def made(source: Source, number: int) -> Made:
    """One definition, mostly a good one."""
    name = f"f{number}"
    program, run_as = source.choose(PROGRAMS), source.choose(USERS)
    env: list[tuple[str, str]] = []
    options = source.number(7)
    if options == 1:
        env = [("A", source.choose(("", "int", "ifname", "any")))]
    if options == 2:
        env = [("A", ""), ("LD_PRELOAD", "")]
    set_env = (("B", source.choose(("1", "", "x y"))),) if options == 3 else ()
    stdin = options != 4
    pattern = lambda: source.choose(PATTERNS)  # noqa: E731
    first = program.rpartition("/")[2]
    kind = source.choose(KINDS)
    fields: list[str] = []
    tree: tuple[Node, ...] = ()
    match kind:
        case "ArgvFilter":
            tree = tuple(source.several(lambda: node(source), 5))
        case "RegExpFilter":
            fields = [first, *source.several(pattern, 4)]
        case "ChainingRegExpFilter":
            fields, env, set_env = [first, *source.several(pattern, 2)], [], ()
        case "IpNetnsExecFilter":
            program, run_as, env, set_env = "ip", "root", [], ()
        case "PathFilter":
            fields = [
                source.choose(
                    (
                        "pass",
                        "/etc",
                        "/tmp/x",
                        *(one for one in PLAIN if one[0] not in "/#;" and "," not in one),
                    )
                )
                for _ in range(1 + source.number(3))
            ]
        case "KillFilter":
            fields, env, set_env = (
                list(dict.fromkeys(source.several(lambda: source.choose(("-9", "-HUP", "-15")), 2))),
                [],
                (),
            )
        case "ReadFileFilter":
            program, run_as, env, set_env = source.choose(("/etc/passwd", "/etc")), "root", [], ()
        case "EnvFilter":
            names = dict.fromkeys(
                source.choose(("A", "B", "LD_PRELOAD")) for _ in range(1 + source.number(1))
            )
            fields = [f"{one}={source.choose(('', '1', '2'))}" for one in names]
            fields += [source.choose(("cat", "/bin/ls", "ip")), *source.several(pattern, 3)]
            program, env = "env", []
        case _:
            # A CommandFilter has no words.
            pass
    return Made(name, kind, program, run_as, tuple(fields), tree, tuple(env), set_env, stdin)


def text_of(definitions: Sequence[Made]) -> str:
    """A filter file."""
    lines = ["[Filters]", *(one.written() for one in definitions)]
    for one in definitions:
        lines += one.section()
    return "\n".join(lines) + "\n"


def request(source: Source) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...], bool]:
    """Words, variables and input of a request, which knows nothing of any filter."""
    first = source.choose(
        ("ip", "cat", "ls", "/bin/ls", "/usr/bin/ip", "nice", "a", "env", "kill", "A=1", "/x/ls", "LS")
    )
    # Some requests are a beginning and then a command.
    head: list[str] = source.choose(
        (
            [],
            ["ip", "netns", "exec", "ns1"],
            ["nice"],
            ["nice", "a"],
            ["A=1"],
            ["env", "A=1"],
            ["env", "B=", "A=1"],
        )
    )
    words = (*head, first, *source.several(lambda: source.choose(WORDS), 5))
    env = {source.choose(VARIABLES[:4]): source.choose(VALUES) for _ in range(source.choose((0, 0, 0, 1, 2)))}
    return words, tuple(env.items()), source.number(3) == 1


def words_for(source: Source, one: Made) -> tuple[str, ...]:
    """Words that a definition mostly allows, and then a word changed, more or less."""
    words = [
        "kill" if one.kind == "KillFilter" else source.choose((one.program, one.program.rpartition("/")[2]))
    ]
    match one.kind:
        case "ArgvFilter":
            for part in one.tree:
                words += _of_node(source, part)
        case "RegExpFilter" | "ChainingRegExpFilter":
            words += [_like(source, pattern) for pattern in one.fields[1:]]
        case "PathFilter":
            words += [
                source.choose(("/etc/x", "a")) if word in ("pass", "/etc") else word for word in one.fields
            ]
        case "KillFilter":
            words += [*one.fields[:1], "4711"]
        case "ReadFileFilter":
            words = ["cat", one.program]
        case "EnvFilter":
            words += [f"{word}1" if word[-1] == "=" else word for word in one.fields if "=" in word]
            program, *patterns = [word for word in one.fields if "=" not in word]
            words += [program, *(_like(source, pattern) for pattern in patterns)]
        case "IpNetnsExecFilter":
            words += ["netns", "exec", "ns1"]
        case _:
            words += source.several(lambda: source.choose(WORDS), 3)
    place = source.number(len(words))
    match source.number(7):
        case 0:
            words[place : place + 1] = [source.choose(WORDS)]
        case 1:
            words.insert(place, source.choose(WORDS))
        case 2:
            del words[place:]
        case _:
            pass
    return tuple(words) if words and words[0] else ("a",)


def _like(source: Source, pattern: str) -> str:
    return source.choose([word for word in WORDS if re.fullmatch(pattern, word, re.ASCII)] or ["a"])


def _of_node(source: Source, part: Node) -> list[str]:
    words: list[str] = []
    for _ in range(source.choose((1, 1, 0, 2, 3)) if part.repeated or part.optional else 1):
        if part.parts:
            for inner in part.parts:
                words += _of_node(source, inner)
        elif part.kind == "word":
            words.append(part.parameter)
        elif part.kind == "choice":
            words.append(source.choose(part.parameter.split("\0")))
        else:
            words.append(
                source.choose([word for word in WORDS if takes(part.kind, part.parameter, word)] or ["7"])
            )
    return words
