"""Find options among the words of a command as getopt_long(3) reads them: clusters, abbreviations, values.

Promises: an option that a program would read is found; one that is found need not be one that it would read
(a letter in the value of another).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Some options of a program.

    `letters` and `names`: those that are looked for, names with their dashes. `valued`: letters behind which
    the word is a value. `others`: names that begin like one of `names`, and are another option.
    """

    letters: frozenset[str]
    names: frozenset[str]
    valued: frozenset[str]
    others: frozenset[str] = frozenset()

    @property
    def words(self) -> frozenset[str]:
        """Each of them as a word of its own."""
        return self.names | {f"-{letter}" for letter in self.letters}

    def found(self, word: str) -> Iterator[tuple[str, str | None]]:
        """Those that `word` may be, each with its value where that stands in the same word."""
        name, equals, value = word.partition("=")
        # Any beginning will do. One that two names have is an error, of programs that look.
        names = [
            one for one in self.names if one.startswith(name) and name not in ("", "-", "--", *self.others)
        ]
        yield from ((one, value if equals else None) for one in names)
        # The second dash of a name ends them.
        if not names and word.startswith("-"):
            for at, letter in enumerate(word[1:], 2):
                if letter in self.letters:
                    yield f"-{letter}", word[at:] or None
                if letter in self.valued or not letter.isalnum():
                    return


def behind(words: Sequence[str], valued: Options, left: int = 0) -> list[str]:
    """The words from the first operand on, or that behind `left` others; `valued`: options with a value."""
    index, options_end = 0, False
    while index < len(words):
        word = words[index]
        if word == "--" and not options_end:
            options_end = True
        elif word.startswith("-") and not options_end:
            # A value in the same word is no word of its own.
            index += any(value is None for _, value in valued.found(word))
        elif left:
            left -= 1
        else:
            return list(words[index:])
        index += 1
    return []


def options(text: str) -> Options:
    """Options as `-a --long -single ; -v --lo`; behind the semicolon letters with a value and other names."""
    looked_for, _, valued = text.partition(";")
    words = looked_for.split()
    return Options(
        frozenset(word[1] for word in words if len(word) == 2),
        frozenset(word for word in words if len(word) > 2),
        frozenset(word[1] for word in valued.split() if len(word) == 2),
        frozenset(word for word in valued.split() if len(word) > 2),
    )


def rows(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """The names and the other columns of `name name | column | column`; a line that is indented goes on."""
    for row in text.strip().replace("\n    ", " ").splitlines():
        names, *columns = row.split("|")
        yield names.split(), columns


def table(text: str) -> dict[str, Options]:
    """Options of programs: rows of one column."""
    return {name: options(column) for names, (column,) in rows(text) for name in names}
