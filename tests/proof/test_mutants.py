"""What `make mutants` changes and does not count: each mutant that was judged exists, and has its reason."""

from pathlib import Path

from tests.proof import mutate


def test_each_one_that_was_judged_exists_and_has_a_reason() -> None:
    every = {str(one) for part in mutate.TESTS for one in mutate.mutants_of(part)}
    reasons = mutate.judged()
    assert reasons and reasons.keys() - every == set()
    assert [name for name, reason in reasons.items() if len(reason.split()) < 4] == []
    lines = mutate.JUDGED.read_text().splitlines()
    assert lines[1:] == sorted(set(lines[1:]))


def test_a_mutant_keeps_its_name_when_lines_move(tmp_path: Path) -> None:
    source = "def of(a, b):\n    if a < 2 and b:\n        return a\n    return a\n"
    path = tmp_path / "one.py"
    path.write_text(source)
    before = mutate.mutants(path)
    path.write_text(f"# More.\n\n{source}")
    after = mutate.mutants(path)
    assert [one.name for one in before] == [one.name for one in after]
    assert len({one.name for one in before}) == len(before)
    assert "of | Lt -> LtE | a < 2" in {one.name for one in before}
    assert {"of | return None | return a", "of | return None | return a (2)"} <= {one.name for one in before}
    # The condition alone: what is below it has its own line.
    assert next(one for one in before if "Lt" in one.name).lines == range(2, 3)


def test_what_runs_at_import_has_no_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text("LIMIT = 5\n\n\ndef of(a, most=7):\n    return a + 1\n")
    lines = {one.name: one.lines for one in mutate.mutants(path)}
    assert list(lines["- | 5 -> 6 | LIMIT = 5"]) == []
    assert [list(found) for name, found in lines.items() if "7 -> 8" in name] == [[]]
    assert [list(found) for name, found in lines.items() if "Add -> Sub" in name] == [[5]]
