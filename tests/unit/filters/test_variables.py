"""Variables that a client may send: any value, a type, a list of values; and what else is refused."""

import pytest

from rootwrap_daemon.filters.values import Match
from rootwrap_daemon.filters.variables import of_code
from tests.unit.filters.lines import errors, match, read, rules


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("A", ["", "x", "5"], []),
        ("A={int}", ["5", "0"], ["", "x", "-5"]),
        ("A={int=1-9}", ["5"], ["0", "10", "x"]),
        ("A={=on|off}", ["on", "off"], ["", "on|off", "o"]),
    ],
)
def test_values_that_a_variable_may_have(option: str, good: list[str], bad: list[str]) -> None:
    found = rules("x: CommandFilter, tool, root", "[x]", f"env = {option}")
    for value in good:
        assert isinstance(match(found, "tool", env=(("A", value),)), Match), value
    for value in bad:
        assert not isinstance(match(found, "tool", env=(("A", value),)), Match), value
    assert not isinstance(match(found, "tool", env=(("B", "5"),)), Match)


def test_a_time_zone_that_is_no_path() -> None:
    found = rules("x: CommandFilter, tool, root", "[x]", "env = TZ")
    for value in ("UTC", "Europe/Berlin", "EST5EDT"):
        assert isinstance(match(found, "tool", env=(("TZ", value),)), Match), value
    for value in ("/etc/localtime", ":/etc/localtime", "../x", "Europe/../x"):
        assert not isinstance(match(found, "tool", env=(("TZ", value),)), Match), value


@pytest.mark.parametrize(
    "option", ["A={}", "A={=}", "A={=a||b}", "A={made_up}", "A={path}", "A={pid}", "A, A"]
)
def test_what_is_no_type_of_a_variable(option: str) -> None:
    assert errors(read("x: CommandFilter, tool, root", "[x]", f"env = {option}"))


def test_only_the_first_word_is_taken_for_argv0() -> None:
    assert read("x: PathFilter, tool, root, pass, tool").findings == ()
    assert len(read("x: PathFilter, tool, root, tool, pass").findings) == 1


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("PYTHONPATH=/a", ["/a"]),
        ("-EPYTHONPATH=/a", ["/a"]),
        ("--setenv=PATH=/a", ["/a"]),
        ("A-PATH=", [""]),
        ("export LD_PRELOAD=/a;PATH=/b x", ["/a;PATH=/b x", "/b x"]),
        ("XPATH=/a", []),
        ("FILE=/a", []),
        ("PATH", []),
    ],
)
def test_what_follows_the_name_of_a_dangerous_variable(word: str, found: list[str]) -> None:
    assert of_code(word) == found
