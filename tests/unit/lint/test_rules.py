"""Each rule's examples are its tests; and a rule that is turned off is missed."""

import os
import re
from pathlib import Path

import pytest

from rootwrap_daemon.lint.check import known_rules
from rootwrap_daemon.lint.finding import Problem, Severity
from rootwrap_daemon.lint.rules import Rule, rule
from rootwrap_daemon.lint.subject import Subject
from tests.unit.lint.examples import findings_of

RULES = list(known_rules().values())
FOUND = [
    pytest.param(one, example, id=f"{one.id}-{n}") for one in RULES for n, example in enumerate(one.found)
]
FINE = [pytest.param(one, example, id=f"{one.id}-{n}") for one in RULES for n, example in enumerate(one.fine)]


def check_found(one: Rule, example: str, directory: Path, rules: list[Rule]) -> None:
    found = findings_of(one, example, directory, rules)
    assert found, f"{one.id} does not find:\n{example}"
    for finding in found:
        assert finding.problem.what
        assert finding.problem.instead
        assert finding.why
        assert finding.location.line >= 1
        assert finding.location.column >= 1
        if finding.text:
            assert finding.location.column - 1 + finding.problem.length <= len(finding.text)


@pytest.mark.parametrize(("one", "example"), FOUND)
def test_found(one: Rule, example: str, tmp_path: Path) -> None:
    check_found(one, example, tmp_path, RULES)


@pytest.mark.parametrize(("one", "example"), FINE)
def test_fine(one: Rule, example: str, tmp_path: Path) -> None:
    if one.id == "RW208" and os.geteuid() != 0:
        pytest.skip("only root can run commands as root")
    assert not findings_of(one, example, tmp_path, RULES)


@pytest.mark.parametrize(("one", "example"), FOUND)
def test_a_rule_that_is_turned_off_is_missed(one: Rule, example: str, tmp_path: Path) -> None:
    rest = [other for other in RULES if other is not one]
    with pytest.raises(AssertionError, match=one.id):
        check_found(one, example, tmp_path, rest)


@pytest.mark.parametrize("one", RULES, ids=lambda one: str(one.id))
def test_a_rule_says_what_and_why(one: Rule) -> None:
    assert re.fullmatch(r"RW[1-4]\d\d", one.id)
    assert len(one.title) < 110
    assert len(one.why) > 40
    assert one.found
    assert one.fine


def test_a_rule_without_reason_or_examples_is_none() -> None:
    def bare(subject: Subject) -> list[Problem]:
        """Something is wrong."""
        return []

    with pytest.raises(ValueError, match="RW499"):
        rule("RW499", Severity.INFO)(bare)  # type: ignore[arg-type]
    assert "RW499" not in known_rules()


#: Rules that are about the user.
_OF_USERS = ("RW203", "RW401", "RW408")


@pytest.mark.parametrize(
    ("one", "example"),
    [
        pytest.param(one, example, id=f"{one.id}-{number}")
        for one in RULES
        for number, example in enumerate(one.found)
        if one.id not in _OF_USERS and ", root" in example
    ],
)
def test_a_rule_sees_root_among_other_users(one: Rule, example: str, tmp_path: Path) -> None:
    text = re.sub(r"(?<!IpNetnsExec)(Filter, [^,\n]+, )root\b", r"\1nobody|root", example)
    text = re.sub(r"(KillFilter, )root\b", r"\1nobody|root", text)
    assert findings_of(one, text, tmp_path, RULES)
