"""Judge requests slowly, as the pages of the reference say, without any code of the filter engine.

What is judged here is what tests.proof.made makes: definitions as values, with its line of a filter file.
"""

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

Words = tuple[str, ...]

_SIGNALS: Final = {"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "USR1": 10, "TERM": 15}


# ArgvFilter: a tree instead of an automaton, tried in all ways instead of one.


@dataclass(frozen=True)
class Node:
    """A part of a pattern: one word of a `kind`, or a group of parts; left out or repeated."""

    kind: str
    parameter: str = ""
    parts: "tuple[Node, ...]" = ()
    optional: bool = False
    repeated: bool = False

    def written(self) -> str:
        """The node as a filter file has it."""
        if self.parts:
            text = ", ".join(part.written() for part in self.parts)
        elif self.kind == "word":
            text = _escaped(self.parameter)
        elif self.kind == "choice":
            text = "{=" + "|".join(map(_escaped, self.parameter.split("\0"))) + "}"
        else:
            text = "{" + self.kind + (f"={_escaped(self.parameter)}" if self.parameter else "") + "}"
        text = f"[{text}]" if self.optional else text
        return f"{text} ..." if self.repeated else text

    def ends(self, words: Words, start: int) -> set[int]:
        """Where what this takes, from `start` on, may end."""
        found = self._once(words, start)
        if self.repeated:
            pending = set(found)
            while pending:
                more = {end for one in pending for end in self._once(words, one)} - found
                found |= more
                pending = more
        return found | {start} if self.optional else found

    def _once(self, words: Words, start: int) -> set[int]:
        if self.parts:
            return sequence(self.parts, words, start)
        return {start + 1} if start < len(words) and self._takes(words[start]) else set()

    def _takes(self, word: str) -> bool:
        if self.kind == "word":
            return word == self.parameter
        if self.kind == "choice":
            return word in self.parameter.split("\0")
        return takes(self.kind, self.parameter, word)


def _escaped(word: str) -> str:
    text = re.sub(r"([{}\[\],|\\ ])", r"\\\1", word)
    return "\\" + text if text[0] in "#;" else text


def sequence(parts: Sequence[Node], words: Words, start: int) -> set[int]:
    """Where what these take, one after the other, may end."""
    here = {start}
    for part in parts:
        here = {end for one in here for end in part.ends(words, one)}
    return here


def _is_inet(family: socket.AddressFamily, word: str) -> bool:
    try:
        socket.inet_pton(family, word)
    except (OSError, ValueError):
        return False
    return True


def _is_free(word: str) -> bool:
    return 0 < len(word) <= 4096 and word.isprintable()


def _number(word: str) -> int | None:
    plain = word.removeprefix("-")
    if not 0 < len(plain) <= 18 or any(sign not in "0123456789" for sign in plain):
        return None
    return int(word) if str(int(word)) == word else None


def takes(kind: str, parameter: str, word: str) -> bool:
    """Is this a word of the type? From the table in doc/source/reference/argv.rst."""
    if not word.isascii() and kind not in ("any", "secret", "path"):
        return False
    match kind:
        case "int":
            number = _number(word)
            if not parameter:
                return number is not None and number >= 0
            low, high = (int(found) for found in re.fullmatch(r"(-?\d+)-(-?\d+)", parameter).groups())  # type: ignore[union-attr]
            return number is not None and low <= number <= high
        case "ipv4":
            return _is_inet(socket.AF_INET, word)
        case "ipv6":
            return _is_inet(socket.AF_INET6, word)
        case "ip":
            return _is_inet(socket.AF_INET, word) or _is_inet(socket.AF_INET6, word)
        case "cidr":
            address, _, length = word.partition("/")
            number = _number(length)
            if number is None or number < 0:
                return False
            four, six = _is_inet(socket.AF_INET, address), _is_inet(socket.AF_INET6, address)
            return (four and number <= 32) or (six and number <= 128)
        case "mac":
            pairs = word.split(":")
            return len(pairs) == 6 and all(len(one) == 2 and set(one) <= set(_HEX) for one in pairs)
        case "uuid":
            parts = word.split("-")
            return [len(one) for one in parts] == [8, 4, 4, 4, 12] and set("".join(parts)) <= set(_HEX)
        case "ifname":
            return (
                0 < len(word) <= 15
                and word not in (".", "..")
                and word[0] != "-"
                and all("!" <= sign <= "~" and sign not in "/:%" for sign in word)
            )
        case "name":
            return 0 < len(word) <= 64 and word[0] in _WORD and set(word) <= set(_WORD + ".-")
        case "netns":
            numeric = re.fullmatch(r"\d+|0[xX][\da-fA-F]+|0[bB][01]+", word) is not None
            return (
                0 < len(word) <= 255
                and word[0] in _WORD
                and set(word) <= set(_WORD + ".:@+-")
                and not numeric
            )
        case "any" | "secret":
            return _is_free(word) and word[0] != "-"
        case "path":
            return _is_free(word) and word[0] == "/"
        case "pid":
            number = _number(word)
            return number is not None and 0 < number < 2**31
        case _:
            raise ValueError(kind)


_HEX: Final = "0123456789abcdefABCDEF"
_WORD: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"


@dataclass(frozen=True)
class Made:
    """One definition. `fields`: after the kind, as written; `tree`: of an ArgvFilter."""

    name: str
    kind: str
    program: str
    run_as: str
    fields: tuple[str, ...] = ()
    tree: tuple[Node, ...] = ()
    #: Options: allowed variables with the type of their values, variables that are set, and input.
    env: tuple[tuple[str, str], ...] = ()
    set_env: tuple[tuple[str, str], ...] = ()
    stdin: bool = True

    def written(self) -> str:
        """The line of the definition."""
        program = [self.program, self.run_as]
        if self.kind == "KillFilter":
            program.reverse()
        elif self.kind == "ReadFileFilter":
            program = [self.program]
        fields = [part.written() for part in self.tree] if self.kind == "ArgvFilter" else list(self.fields)
        return f"{self.name}: {', '.join([self.kind, *program, *fields])}"

    def section(self) -> list[str]:
        """The lines of its options."""
        lines = []
        if self.env:
            values = ", ".join(name + (f"={{{kind}}}" if kind else "") for name, kind in self.env)
            lines.append(f"env = {values}")
        if self.set_env:
            lines.append("set_env = " + ", ".join(f"{name}={value}" for name, value in self.set_env))
        if not self.stdin:
            lines.append("stdin = no")
        return [f"[{self.name}]", *lines] if lines else []

    def lets(self, env: tuple[tuple[str, str], ...], *, stdin: bool) -> bool:
        """Does it allow the variables and the input of a request?"""
        known = dict(self.env)
        for name, value in env:
            if name not in known:
                return False
            good = takes(known[name], "", value) if known[name] else _is_ascii_text(value)
            if not good:
                return False
        return self.stdin or not stdin


def _is_ascii_text(value: str) -> bool:
    return all(" " <= sign <= "~" for sign in value)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _named(made: Made, word: str) -> bool:
    return word in (made.program, _last(made.program))


def _like(patterns: Sequence[str], words: Words) -> bool:
    return len(patterns) == len(words) and all(
        len(word) <= 4096 and re.fullmatch(pattern, word, re.ASCII) is not None
        for pattern, word in zip(patterns, words, strict=True)
    )


def allows(made: Made, argv: Words) -> bool:
    """Does this one, which is no chain, allow the words?"""
    rest = argv[1:]
    match made.kind:
        case "CommandFilter":
            return _named(made, argv[0])
        case "RegExpFilter":
            return _named(made, argv[0]) and _like(made.fields, argv)
        case "PathFilter":
            return (
                _named(made, argv[0])
                and len(rest) == len(made.fields)
                and all(
                    word[:1] != "-" if wanted == "pass" else word == wanted or (wanted[0] == word[:1] == "/")
                    for wanted, word in zip(made.fields, rest, strict=True)
                )
            )
        case "KillFilter":
            return argv[0] == "kill" and _is_kill(made, rest)
        case "ReadFileFilter":
            return argv == ("cat", made.program)
        case "EnvFilter":
            return _is_env(made, rest if _named(made, argv[0]) else argv)
        case "ArgvFilter":
            return _named(made, argv[0]) and len(rest) in sequence(made.tree, rest, 0)
        case _:
            return False


def _is_kill(made: Made, rest: Words) -> bool:
    if len(rest) == 3 and rest[0] == "-s":
        # A name alone, as kill(1) has it.
        if not re.fullmatch(r"[A-Z][A-Z0-9+-]*", rest[1], re.ASCII):
            return False
        rest = (f"-{rest[1]}", rest[2])
    if made.fields:
        if len(rest) != 2 or rest[0] not in made.fields:
            return False
    elif len(rest) != 1:
        return False
    return takes("pid", "", rest[-1])


def _is_env(made: Made, words: Words) -> bool:
    variables = [one for one in made.fields if "=" in one]
    count = len(variables)
    program, *patterns = made.fields[count:]
    if len(words) <= count or words[count] not in (program, _last(program)):
        return False
    left = [one.split("=", 1) for one in variables]
    for word in words[:count]:
        name, equals, value = word.partition("=")
        mine = next((one for one in left if one[0] == name), None)
        control = any(sign < " " or "\x7f" <= sign < "\xa0" for sign in value)
        if (
            not equals
            or mine is None
            or (mine[1] and mine[1] != value)
            or (control and not value.isprintable())
        ):
            return False
        left.remove(mine)
    return not patterns or _like(patterns, words[count + 1 :])


def _after_prefix(made: Made, argv: Words) -> Words | None:
    """The inner command of a chain."""
    if not _named(made, argv[0]):
        return None
    if made.kind == "IpNetnsExecFilter":
        good = len(argv) > 4 and argv[1] in ("net", "netn", "netns") and argv[2] in ("e", "ex", "exe", "exec")
        good = good and re.fullmatch(r"\w[\w.:@+-]{0,254}", argv[3], re.ASCII) is not None
        return argv[4:] if good else None
    count = len(made.fields)
    return argv[count:] if len(argv) > count and _like(made.fields, argv[:count]) else None


@dataclass
class Verdict:
    """What the definitions say: who allows, the outer one and the inner; all that match the words."""

    allowed: tuple[Made, Made | None] | None = None
    matched: list[Made] = field(default_factory=list)


def judge(
    definitions: Sequence[Made], argv: Words, env: tuple[tuple[str, str], ...], *, stdin: bool
) -> Verdict:
    """Try each in turn."""
    verdict = Verdict()
    for made in definitions:
        inner: list[Made | None] = []
        if made.kind in ("ChainingRegExpFilter", "IpNetnsExecFilter"):
            rest = _after_prefix(made, argv)
            if rest is not None:
                inner += [
                    one
                    for one in definitions
                    if _is_leaf(one) and _as_one(made, one) and _is_named(one, rest) and allows(one, rest)
                ]
        elif _is_asked(definitions, made, argv) and allows(made, argv):
            inner = [None]
        for leaf in inner:
            verdict.matched.append(made)
            # A chain's variables are those of its inner command; input must be allowed by both.
            good = (leaf or made).lets(env, stdin=stdin) and made.lets((), stdin=stdin)
            if good and verdict.allowed is None:
                verdict.allowed = made, leaf
    return verdict


def _is_asked(definitions: Sequence[Made], made: Made, argv: Words) -> bool:
    """An EnvFilter sees `A=1 program` as `env A=1 program` where no filter is for a program `A=1`."""
    if made.kind != "EnvFilter" or _named(made, argv[0]):
        return True
    names = {
        one.split("=")[0]
        for other in definitions
        if other.kind == "EnvFilter"
        for one in other.fields
        if "=" in one
    }
    name, equals, _ = argv[0].partition("=")
    return bool(equals) and name in names


def _is_named(made: Made, argv: Words) -> bool:
    """Inside a chain an EnvFilter's command begins with `env`: the outer program executes the first word."""
    return made.kind != "EnvFilter" or _named(made, argv[0])


def _is_leaf(made: Made) -> bool:
    return made.kind not in ("ChainingRegExpFilter", "IpNetnsExecFilter", "ChainingFilter")


def _as_one(outer: Made, inner: Made) -> bool:
    """One process has one user; a signal is sent by the daemon itself."""
    if inner.kind == "KillFilter":
        return False
    return outer.run_as == ("root" if inner.kind == "ReadFileFilter" else inner.run_as)
