"""Argv that a service sends, and what an attacker makes of them: from a seed, the same each time."""

import os
import random
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from oslo_rootwrap import filters as oslo

from tests.differential.engines import Oslo

Argv = tuple[str, ...]

LEGITIMATE: Final = Path(__file__).with_name("legitimate.txt")


@dataclass(frozen=True, slots=True)
class Command:
    """A line of legitimate.txt. `refused`: what says why we do not allow it, empty if we do."""

    file: str
    text: str
    refused: str = ""

    @property
    def argv(self) -> Argv:
        return tuple(shlex.split(self.text))


@cache
def legitimate() -> tuple[Command, ...]:
    found = []
    file = ""
    for line in LEGITIMATE.read_text().splitlines():
        if line.startswith("@ "):
            file = line[2:]
        elif line.startswith("!"):
            refused, _, text = line[1:].partition(" ")
            found.append(Command(file, text, refused))
        elif line and not line.startswith("#"):
            found.append(Command(file, line))
    return tuple(found)


#: Words that no service sends, each for a weakness that one of the engines may have.
ODD_WORDS: Final = (
    "",
    "-",
    "--",
    "-b",
    "-batch",
    "--b",
    "-force",
    "-all",
    "-l",
    "-n",
    "-c=never",
    "-x",
    "--help",
    "-9",
    "-KILL",
    "-TERM",
    "--reference=/tmp/x",
    "netns",
    "net",
    "exec",
    "e",
    "vrf",
    "vr",
    "default",
    "monitor",
    "mon",
    "file",
    "xdp",
    "obj",
    "pinned",
    "encap",
    "bpf",
    "type",
    "sh",
    "id",
    "env",
    "privsep-helper",
    "cat",
    "kill",
    "/bin/sh",
    "/etc/shadow",
    "/etc/../etc/shadow",
    "../../proc/1/ns/net",
    ".",
    "..",
    "/",
    "A=1",
    "A=",
    "=1",
    "LC_ALL=evil",
    "LC_ALL=",
    "PROCESS_TAG=1",
    "PROCESS_TAG=",
    "PROCESS_TAG=a\nb",
    "LD_PRELOAD=/tmp/x.so",
    "/tmp/PROCESS_TAG=1",
    "1",
    "0",
    "-1",
    "+1",
    "01",
    " 1",
    "1_0",
    "4294967296",
    "99999999999",
    "10.0.0.0/8",
    "::/0",
    "0x1/0xff",
    "a b",
    "a\nb",
    "\n",
    "\x1b[0m",
    "\udcff",
    "\N{KELVIN SIGN}",
    "\N{ARABIC-INDIC DIGIT ONE}",
)

Mutation = Callable[[random.Random, list[str], tuple[str, ...]], None]


def _at(rng: random.Random, words: list[str]) -> int:
    return rng.randrange(len(words))


def drop(rng: random.Random, words: list[str], pool: Argv) -> None:
    del words[_at(rng, words)]


def add(rng: random.Random, words: list[str], pool: Argv) -> None:
    words.insert(rng.randrange(len(words) + 1), rng.choice(pool))


def add_odd(rng: random.Random, words: list[str], pool: Argv) -> None:
    words.insert(rng.randrange(len(words) + 1), rng.choice(ODD_WORDS))


def repeat(rng: random.Random, words: list[str], pool: Argv) -> None:
    index = _at(rng, words)
    words.insert(index, words[index])


def swap(rng: random.Random, words: list[str], pool: Argv) -> None:
    one, other = _at(rng, words), _at(rng, words)
    words[one], words[other] = words[other], words[one]


def replace(rng: random.Random, words: list[str], pool: Argv) -> None:
    words[_at(rng, words)] = rng.choice(pool)


def replace_odd(rng: random.Random, words: list[str], pool: Argv) -> None:
    words[_at(rng, words)] = rng.choice(ODD_WORDS)


def newline(rng: random.Random, words: list[str], pool: Argv) -> None:
    words[_at(rng, words)] += "\n"


def tail(rng: random.Random, words: list[str], pool: Argv) -> None:
    words[_at(rng, words)] += rng.choice((" --evil", "/../x", " ", "x", "\nx", "/", "$", "9"))


def head(rng: random.Random, words: list[str], pool: Argv) -> None:
    index = _at(rng, words)
    words[index] = rng.choice((" ", "-", "--", "x", "+", "0", "A=", "/")) + words[index]


def other_digits(rng: random.Random, words: list[str], pool: Argv) -> None:
    index = _at(rng, words)
    zero = ord(rng.choice("\N{ARABIC-INDIC DIGIT ZERO}\N{FULLWIDTH DIGIT ZERO}"))
    words[index] = re.sub("[0-9]", lambda found: chr(zero + int(found[0])), words[index])


def other_case(rng: random.Random, words: list[str], pool: Argv) -> None:
    index = _at(rng, words)
    words[index] = words[index].swapcase().replace("K", "\N{KELVIN SIGN}")


def shorten(rng: random.Random, words: list[str], pool: Argv) -> None:
    index = _at(rng, words)
    words[index] = words[index][: rng.randrange(len(words[index]) + 1)]


def abbreviate(rng: random.Random, words: list[str], pool: Argv) -> None:
    """Short forms of what ip(8) reads."""
    for index, word in enumerate(words):
        if word in ("netns", "exec", "link", "addr", "route", "vrf", "monitor") and rng.random() < 0.7:
            words[index] = word[: rng.randrange(1, len(word) + 1)]


def elsewhere(rng: random.Random, words: list[str], pool: Argv) -> None:
    index = _at(rng, words)
    words[index] = "/tmp/" + os.path.basename(words[index])


def base(rng: random.Random, words: list[str], pool: Argv) -> None:
    index = _at(rng, words)
    words[index] = os.path.basename(words[index])


def with_env(rng: random.Random, words: list[str], pool: Argv) -> None:
    words[:0] = rng.choice((["env"], ["A=1"], ["env", "A=1"], ["env", "env"], ["/usr/bin/env"]))


def without_first(rng: random.Random, words: list[str], pool: Argv) -> None:
    del words[0]


def long(rng: random.Random, words: list[str], pool: Argv) -> None:
    words[_at(rng, words)] += "9" * 4096


def in_chain(rng: random.Random, words: list[str], pool: Argv) -> None:
    words[:0] = rng.choice(
        (
            ["ip", "netns", "exec", "ns1"],
            ["ip", "net", "e", "ns1"],
            ["ip", "netns", "exec", "../x"],
            ["ip", "-n", "ns1"],
            ["ip", "-n", "netns", "netns", "exec", "ns1"],
            ["ip", "-l", "netns", "netns", "exec", "ns1"],
            ["ip", "-all", "netns", "exec"],
            ["ip", "vrf", "exec", "default"],
            ["ionice", "-c3"],
            ["ionice", "-c2", "-n7"],
            ["cgexec", "-g", "blkio:x"],
        )
    )


MUTATIONS: Final[tuple[Mutation, ...]] = (
    drop, add, add_odd, repeat, swap, replace, replace_odd, newline, tail, head, other_digits, other_case,
    shorten, abbreviate, elsewhere, base, with_env, without_first, long, in_chain,
)  # fmt: skip


@cache
def pool() -> Argv:
    """Every word of a legitimate command, and what the patterns of the corpus take that those have not."""
    words = {word for command in legitimate() for word in command.argv}
    words |= {"http://10.0.0.1:80/", "http://[fe80::1]:80", "ADD", "4294967295", "/etc/neutron/neutron.conf"}
    return tuple(sorted(words))


@cache
def taken_by(pattern: str) -> Argv:
    """The words of the pool that oslo.rootwrap's reading of a pattern takes."""
    try:
        return tuple(word for word in pool() if re.match(pattern + "$", word))
    except re.error:
        return ()


class Source:
    """Argv for the filters of one file."""

    def __init__(self, engine: Oslo) -> None:
        self.engine = engine
        programs = {os.path.basename(one.exec_path) for one in engine.filters} | {"env"}
        nobody = (None, "privsep-helper")
        self.real = tuple(
            argv
            for argv in (one.argv for one in legitimate())
            if os.path.basename(argv[0]) in programs and engine.first(argv) not in nobody
        )
        self.filters = engine.filters[:-1] or engine.filters

    def argv(self, rng: random.Random) -> Argv:
        """At least one word."""
        if self.real and rng.random() < 0.5:
            words = list(rng.choice(self.real))
        else:
            words = self.sample(rng, rng.choice(self.filters))
        for _ in range(rng.choices((0, 1, 2, 3), (1, 5, 3, 1))[0]):
            if words:
                rng.choice(MUTATIONS)(rng, words, pool())
        return tuple(words) or (rng.choice(ODD_WORDS),)

    def sample(self, rng: random.Random, one: oslo.CommandFilter) -> list[str]:
        """Words that this filter is for."""
        name = rng.choice((one.exec_path, os.path.basename(one.exec_path)))
        some = [rng.choice(pool()) for _ in range(rng.randrange(4))]
        match one:
            case oslo.KillFilter():
                number = [rng.choice(one.args[1:])] if one.args[1:] else []
                if number and rng.random() < 0.1:
                    number = ["-s", number[0].removeprefix("-")]
                return ["kill", *number, str(rng.randrange(1, 99999))]
            case oslo.ReadFileFilter():
                return ["cat", one.file_path]
            case oslo.PathFilter():
                return [name, *(self._path_word(rng, word) for word in one.args)]
            case oslo.EnvFilter():
                words = [f"{word}{rng.choice(('', '1', 'x'))}" if "=" in word else word for word in one.args]
                return ["env", *(self._word(rng, word) for word in words), *some]
            case oslo.IpNetnsExecFilter():
                return [name, "netns", "exec", "ns1", *self._inner(rng)]
            case oslo.ChainingRegExpFilter():
                return [*(self._word(rng, pattern) for pattern in one.args), *self._inner(rng)]
            case oslo.RegExpFilter():
                return [self._word(rng, pattern) for pattern in one.args]
            case oslo.IpFilter():
                of_ip = [argv for argv in self.real if argv[0] == "ip"]
                return [name, *(rng.choice(of_ip)[1:] if of_ip else some)]
            case _:
                return [name, *some]

    def _path_word(self, rng: random.Random, expected: str) -> str:
        if expected == "pass":
            return rng.choice((rng.choice(pool()), "-R", "--reference=/tmp/x"))
        if not expected.startswith("/"):
            return expected
        below = rng.choices(("/x", "", "x", "/../x", "/x/..", "-evil/x"), (5, 1, 1, 1, 1, 1))[0]
        return (expected + below)[rng.random() < 0.1 :]

    def _inner(self, rng: random.Random) -> list[str]:
        return self.sample(rng, rng.choice(_leaves(self.filters)))

    def _word(self, rng: random.Random, pattern: str) -> str:
        return rng.choice(taken_by(pattern) or (pattern,))


def _leaves(filters: Iterable[oslo.CommandFilter]) -> list[oslo.CommandFilter]:
    return [one for one in filters if not isinstance(one, oslo.ChainingFilter)]
