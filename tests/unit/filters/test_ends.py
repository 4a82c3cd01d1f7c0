"""What filters read and show at the ends of what they take."""

from types import SimpleNamespace
from typing import Any

import pytest

from rootwrap_daemon.filters import ip, values
from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.patterns import Clock, Pattern
from rootwrap_daemon.filters.read import options
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.ini import Field


@pytest.mark.parametrize(
    ("text", "argv", "runs"),
    [
        ("argv", True, True),
        ("no-argv", False, True),
        ("refusals", True, False),
        ("no-argv refusals", False, False),
        ("argv refusals", True, False),
    ],
)
def test_what_a_record_has(text: str, argv: bool, runs: bool) -> None:
    fields = tuple(Field(word, Location("x", 1, 1)) for word in text.split())
    assert options._audit(fields) == {"audit_argv": argv, "audit_runs": runs}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("argv no-argv", "argv and no-argv at once"),
        ("no-argv refusals argv", "argv and no-argv at once"),
        ("argv argv", "'argv' is not known"),
        ("all", "'all' is not known"),
    ],
)
def test_what_a_record_cannot_have(text: str, what: str) -> None:
    with pytest.raises(Fault) as caught:
        options._audit(tuple(Field(word, Location("x", 1, 1)) for word in text.split()))
    assert caught.value.what == what


def test_what_every_filter_lets_a_record_show() -> None:
    def shown(*each: values.Shown) -> values.Shown:
        matches: Any = [SimpleNamespace(shown=one) for one in each]
        return values.shown_to_all(matches)

    every = values.ALL_SHOWN
    assert shown() == shown(every, every) == every
    assert shown(every, values.Shown(False)) == shown(values.Shown(False), every) == values.Shown(False)
    one, two = (values.Shown(True, frozenset({number})) for number in (1, 2))
    assert shown(one, every, two) == values.Shown(True, frozenset({1, 2}))
    assert shown(one, values.Shown(False)) == values.Shown(False, frozenset({1}))


def test_words_behind_which_ip_opens_a_file() -> None:
    for rest, loads in (
        (("set", "xdp", "object"), True),
        (("set", "xdp", ""), True),
        (("set", "xdp", "off"), False),
        (("set", "", "x"), True),
        (("set", "", ""), False),
        (("set", "", "off"), False),
        (("set", "xdp"), True),
        (("set", "dev", "x"), False),
    ):
        assert ip._loads("link", rest, 1) is loads, rest
    assert 1 not in ip._keyword_places("link", ("property", "add", "xdp"))
    assert next(ip._keyword_places("link", ("set", "property", "xdp"))) == 1
    assert list(ip._keyword_places("link", ("set",))) == []


def test_the_time_that_steps_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each character and one more."""
    spent: list[float] = []
    monkeypatch.setattr(Clock, "spend", lambda clock, seconds: spent.append(seconds))
    pattern = Pattern("[a-z]*", "", 3)
    for word in ("", "a", "abc"):
        assert pattern.matches(word, Clock())
    assert [round(one / spent[0]) for one in spent] == [1, 2, 4]


@pytest.mark.parametrize(
    ("words", "loads"),
    [
        ("add encap bpf", True),
        ("add encap mpls endpoint", False),
        ("add encap seg6local endpoint", True),
        ("add encap seg6local action e", True),
        ("add encap seg6local", False),
        ("endpoint x encap seg6local", False),
        ("add encap", True),
        ("add dev x", False),
    ],
)
def test_words_behind_encap(words: str, loads: bool) -> None:
    rest = tuple(words.split())
    place = rest.index("encap") if "encap" in rest else 1
    assert ip._loads("route", rest, place) is loads


@pytest.mark.parametrize("known", ["monitor", "xfrm"])
@pytest.mark.parametrize(("word", "loads"), [("file", True), ("f", True), ("all", False)])
def test_what_monitors_a_file(known: str, word: str, loads: bool) -> None:
    assert ip._loads(known, ("x", word), 1) is loads
