"""The matrix, printed at the end."""

from collections import defaultdict

import pytest

from tests.conformance.fronts import FRONTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each scenario, one column for each front end."""
    matrix: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for outcome, word in (("passed", "ok"), ("skipped", "skipped"), ("failed", "FAILED"), ("error", "ERROR")):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name == "conformance":
                    scenario, front = value
                    matrix[scenario][front] = word
    if not matrix:
        return
    terminalreporter.section("conformance")
    width = max(map(len, matrix))
    terminalreporter.line(" ".join([" " * width, *(f"{front:8}" for front in FRONTS)]))
    for scenario, words in matrix.items():
        terminalreporter.line(" ".join([f"{scenario:{width}}", *(f"{words.get(f, '-'):8}" for f in FRONTS)]))
