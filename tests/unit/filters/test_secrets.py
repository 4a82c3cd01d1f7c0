"""Which words no record may show: by a filter's words, by its option, in a chain, of a denial."""

from collections.abc import Sequence

import pytest

from rootwrap_daemon.filters.values import ALL_SHOWN, Match, shown_names
from tests.unit.filters.lines import match, rules

TOOL = "t: ArgvFilter, tool, root, --key, {secret}, {int}"
NICE = "n: ChainingRegExpFilter, nice, root, nice, -n, [0-9]+"


@pytest.mark.parametrize(
    ("lines", "argv", "secret"),
    [
        ([TOOL], ["tool", "--key", "x", "1"], {2}),
        ([TOOL, "[t]", "secret = 3"], ["tool", "--key", "x", "1"], {2, 3}),
        ([NICE, TOOL], ["nice", "-n", "5", "tool", "--key", "x", "1"], {5}),
        ([NICE, TOOL, "[n]", "secret = 2"], ["nice", "-n", "5", "tool", "--key", "x", "1"], {2, 5}),
        (["e: EnvFilter, env, root, A=, tool", "[e]", "secret = 1"], ["env", "A=1", "tool", "x"], {1}),
        # The record has the words as they were asked for, without the `env` that was left out.
        (["e: EnvFilter, env, root, A=, tool", "[e]", "secret = 3"], ["A=1", "tool", "x"], {2}),
        (["x: CommandFilter, tool, root"], ["tool", "x"], set()),
    ],
)
def test_secret_words_of_what_is_allowed(lines: list[str], argv: list[str], secret: set[int]) -> None:
    found = match(rules(*lines), *argv)
    assert isinstance(found, Match)
    assert found.secret == secret


@pytest.mark.parametrize(
    ("argv", "secret"),
    [
        (("tool", "--kye", "x", "1"), {1, 2, 3}),
        (("nice", "tool", "x"), {2}),
        (("tool", "tool", "x"), {1, 2}),
        (("tool",), set()),
        # A path that no filter has is a typo, too.
        (("/opt/bin/tool", "--key", "x", "1"), {1, 2, 3}),
        (("nice", "./tool", "x"), {2}),
    ],
)
def test_a_typo_shows_no_secret(argv: Sequence[str], secret: set[int]) -> None:
    assert rules(TOOL).shown(tuple(argv)).secret == secret
    assert rules(TOOL).shown(tuple(argv)).argv


def test_a_typo_behind_a_variable_shows_no_secret() -> None:
    lines = ["e: EnvFilter, env, root, A=, tool", "[e]", "secret = 1"]
    assert rules(*lines).shown(("A=x", "toool", "y")).secret == {0, 1, 2}
    assert rules(*lines).shown(("env", "A=x", "toool")).secret == {1, 2}
    assert rules(*lines).shown(("B=x", "toool")) is ALL_SHOWN
    assert rules(lines[0]).shown(("A=x", "toool")) is ALL_SHOWN


def test_without_secrets_a_denial_shows_all_words() -> None:
    assert rules(TOOL).shown(("other", "x")) is ALL_SHOWN
    assert rules("x: CommandFilter, tool, root").shown(("tool", "x")) is ALL_SHOWN


def test_names_of_variables_that_a_record_may_show() -> None:
    env = [(name, "x") for name in ("A", "_b1", "1x", "é", "a-b", "", "L" * 65)]
    assert shown_names(env) == ["A", "_b1", "?", "?", "?", "?", "L" * 64]
    assert len(shown_names([("A", "x")] * 17)) == 16


def test_a_denial_hides_the_words_of_a_filter_whose_option_says_so() -> None:
    line = "c: RegExpFilter, tool, root, tool, [a-z]+"
    assert rules(line, "[c]", "secret = 1").shown(("tool", "X")).secret == {1}
    assert rules(line).shown(("tool", "X")).secret == set()
    # Those of one whose words no record shows, as well.
    denied = rules(line, "[c]", "audit = no-argv")
    assert denied.shown(("tool", "X")).secret == denied.shown(("/opt/tool", "X")).secret == {1}
    assert denied.shown(("nice", "tool", "X")).secret == {2}
