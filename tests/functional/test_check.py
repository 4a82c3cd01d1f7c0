"""`rootwrapctl check` and `rules` as they are called: exit codes, formats, this host, real filter files."""

import gzip
import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from rootwrap_daemon.analysis.subjects import Wanted, gather
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.lint.check import judge, known_rules
from tests.prepared import CTL

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "corpus"
GOOD = "[Filters]\nls: RegExpFilter, ls, root, ls, -l\n"
WARNED = "[Filters]\nls: RegExpFilter, ls, root, ls, [a-z-]+\n"
BAD = "[Filters]\ndd: CommandFilter, dd, root\n"
INFO = "[Filters]\nls: RegExpFilter, ls, root, ls, ^-l$\n"


def ctl(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return CTL.run(*words, cwd=ROOT)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        (GOOD, ["--fail-on", "info"], 0),
        (INFO, [], 0),
        (INFO, ["--fail-on", "info"], 1),
        (INFO, ["--strict"], 0),
        (WARNED, [], 0),
        (WARNED, ["--fail-on", "warning"], 1),
        (WARNED, ["--strict"], 1),
        (BAD, [], 1),
    ],
)
def test_exit_code(tmp_path: Path, text: str, options: list[str], code: int) -> None:
    done = ctl("check", *options, write(tmp_path / "x.filters", text))
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize(
    "words",
    [
        ["check", "/nonexistent/x.filters"],
        ["check", "--config-file", "/nonexistent/rootwrap.conf"],
        ["check", "--audit-log", "/nonexistent", "etc/rootwrap-daemon/filters.d"],
        ["check", "--audit-log", "README.rst", "etc/rootwrap-daemon/filters.d"],
    ],
)
def test_unreadable_is_2(words: list[str]) -> None:
    done = ctl(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(("rootwrapctl: ", "usage: "))


def test_the_filters_that_come_with_the_daemon_pass_the_strictest_check() -> None:
    done = ctl("check", "--strict", "etc/rootwrap-daemon/filters.d")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(" info in 2 files\n"), "were they judged?"


def test_a_pipe_gets_plain_text(tmp_path: Path) -> None:
    done = ctl("check", write(tmp_path / "x.filters", BAD))
    assert done.stdout.startswith(f"{tmp_path}/x.filters:2:20: error: RW301: any arguments for dd")
    assert "\x1b" not in done.stdout
    assert "^^" not in done.stdout


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_json_and_sarif_are_json(tmp_path: Path, form: str) -> None:
    assert json.loads(ctl("check", "--format", form, write(tmp_path / "x.filters", BAD)).stdout)


def test_many_findings_are_summed_up(tmp_path: Path) -> None:
    many = "[Filters]\n" + "".join(f"dd{number}: CommandFilter, dd, root\n" for number in range(9))
    shown = ctl("check", "--strict", write(tmp_path / "many.filters", many)).stdout
    assert "    9 errors   RW301  " in shown
    assert "suggest --filters" in shown.splitlines()[-1]
    assert "suggest" not in ctl("check", write(tmp_path / "bad.filters", BAD)).stdout
    assert json.loads(ctl("check", "--format", "json", tmp_path / "many.filters").stdout)


def test_github(tmp_path: Path) -> None:
    done = ctl("check", "--format", "github", write(tmp_path / "x.filters", BAD))
    assert done.stdout.startswith(f"::error file={tmp_path}/x.filters,line=2,col=20,")


def test_a_directory_is_read_as_the_daemon_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "b.filters", BAD)
    write(tmp_path / "a.filters", "[Filters]\ncp: CommandFilter, cp, root\n")
    write(tmp_path / "c.filters.rpmsave", BAD)
    done = ctl("check", "--format", "json", tmp_path)
    found = [(Path(one["file"]).name, one["rule"]) for one in json.loads(done.stdout)["findings"]]
    assert found == [("c.filters.rpmsave", "RW117"), ("a.filters", "RW301"), ("b.filters", "RW301")]


def test_a_directory_of_other_things_is_one_error(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / f"{number}.conf", "")
    done = ctl("check", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"rootwrapctl: {tmp_path} holds no file whose name ends in .filters\n"
    write(tmp_path / "c.filters~", BAD)
    assert "c.filters~:1:1: warning: RW117" in ctl("check", tmp_path).stdout


def test_fix(tmp_path: Path) -> None:
    path = write(tmp_path / "x.filters", INFO)
    done = ctl("check", "--fix", "--fail-on", "info", path)
    assert (done.returncode, path.read_text()) == (0, INFO.replace("^-l$", "-l"))
    assert done.stderr == f"{path}: 1 corrected\n"


def test_rules() -> None:
    listed = ctl("rules")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(known_rules())
    one = ctl("rules", "rw301")
    assert one.stdout.startswith("RW301 (error): A dangerous program with any arguments\n")
    assert "Found:\n\n    tcpdump: CommandFilter, tcpdump, root\n" in one.stdout


def config(tmp_path: Path, filters: str, **options: str) -> Path:
    """A configuration for this user, and the filters that it names."""
    write(tmp_path / "filters.d" / "x.filters", filters)
    (tmp_path / "filters.d").chmod(0o755)
    values = {"filters_path": f"{tmp_path}/filters.d", "trusted_owners": f"root,{tmp_path.stat().st_uid}"}
    lines = [f"{name} = {value}" for name, value in {**values, **options}.items()]
    return write(tmp_path / "rootwrap-daemon.conf", "\n".join(("[DEFAULT]", *lines, "")))


def of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {one["rule"]: one["severity"] for one in json.loads(done.stdout)["findings"]}


@pytest.mark.root
def test_a_configuration_names_what_is_judged_and_where(tmp_path: Path) -> None:
    text = f"{GOOD}no: RegExpFilter, no-such-program, root, no-such-program\n[no]\nstdin = no\n"
    done = ctl("check", "--format", "json", "--config-file", config(tmp_path, text))
    assert of(done) == {"RW201": "warning"}
    assert json.loads(done.stdout)["files"] == 2


@pytest.mark.root
def test_a_configuration_that_is_judged_alone_is_said_to_be(tmp_path: Path) -> None:
    path = config(tmp_path, BAD)
    done = ctl("check", path)
    assert (done.returncode, done.stdout) == (0, "nothing found in 1 file\n")
    assert done.stderr == f"{path}: judged without the filters that it names: --config-file judges both\n"
    assert ctl("check", path, write(tmp_path / "y.filters", GOOD)).stderr == ""
    assert ctl("check", "--config-file", path).stderr == ""


@pytest.mark.root
def test_a_padded_path_is_found_and_what_it_names_is_judged(tmp_path: Path) -> None:
    path = config(tmp_path, BAD, filters_path=f"/nonexistent, {tmp_path}/filters.d")
    found = of(ctl("check", "--format", "json", "--config-file", path))
    assert found == {"RW205": "warning", "RW206": "error", "RW301": "error"}


def test_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    path = config(tmp_path, BAD, socket_mode="0999")
    assert of(ctl("check", "--format", "json", "--config-file", path)) == {"RW207": "error", "RW301": "error"}


def test_a_filter_file_that_others_can_write(tmp_path: Path) -> None:
    path = config(tmp_path, GOOD)
    (tmp_path / "filters.d" / "x.filters").chmod(0o666)
    assert of(ctl("check", "--format", "json", "--config-file", path)) == {"RW205": "error"}


@pytest.mark.root
def test_directories_that_are_not_there_or_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir(mode=0o777)
    (tmp_path / "bin").chmod(0o777)
    path = config(
        tmp_path,
        GOOD,
        filters_path=f"{tmp_path}/filters.d,/nonexistent/filters.d",
        exec_dirs=f"/usr/bin,{tmp_path}/bin",
    )
    done = ctl("check", "--format", "json", "--config-file", path)
    found = [(one["rule"], one["severity"], one["file"]) for one in json.loads(done.stdout)["findings"]]
    assert sorted(found) == [
        ("RW205", "error", f"{tmp_path}/bin"),
        ("RW205", "warning", "/nonexistent/filters.d"),
    ]
    assert done.stderr == ""


@pytest.mark.root
def test_a_configuration_with_other_paths_is_about_those(tmp_path: Path) -> None:
    path = config(tmp_path, BAD)
    other = write(tmp_path / "other" / "x.filters", f"{GOOD}no: CommandFilter, no-such-program, root\n")
    found = of(ctl("check", "--format", "json", "--config-file", path, other))
    assert found == {"RW201": "warning", "RW313": "warning"}


def test_on_finding_skip_forgives_what_is_left_out_but_not_strictly(tmp_path: Path) -> None:
    path = config(tmp_path, "[Filters]\nx: NoFilter, x, root\n", on_finding="skip")
    done = ctl("check", "--format", "json", "--config-file", path)
    assert (done.returncode, of(done)) == (0, {"RW101": "warning"})
    strict = ctl("check", "--format", "json", "--strict", "--config-file", path)
    assert (strict.returncode, of(strict)) == (1, {"RW101": "error"})


@pytest.mark.root
def test_danger_is_not_forgiven_by_skip(tmp_path: Path) -> None:
    path = config(tmp_path, BAD, on_finding="skip")
    assert of(ctl("check", "--format", "json", "--config-file", path)) == {"RW301": "error"}


def test_an_audit_log_of_the_daemon(tmp_path: Path) -> None:
    log = write(
        tmp_path / "audit.jsonl", '{"event":"run","filter":"ls"}\n{"event":"run","filter":"exec+dd"}\n{"to'
    )
    path = write(tmp_path / "d" / "x.filters", f"{GOOD}idle: RegExpFilter, ls, root, ls, -a\n")
    assert of(ctl("check", "--format", "json", "--audit-log", log, path)) == {"RW404": "warning"}


corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="../shared/corpus is not here: it comes with the project"
)


@corpus
def test_every_file_of_the_corpus_is_judged() -> None:
    """No crash, every file; the table of findings is shown by `pytest -s`."""
    rules: Counter[tuple[str, str]] = Counter()
    files = [path for path in sorted(CORPUS.rglob("*")) if path.is_file() and path.parent != CORPUS]
    for path in files:
        (subject,) = gather(Wanted((str(path),)))
        assert len(subject.files) + len(subject.configs) == 1
        found = judge(subject)
        for finding in found:
            rules[finding.rule, finding.severity.value] += 1
            line = path.read_text().split("\n")[finding.location.line - 1].removesuffix("\r")
            assert finding.text == line
            assert finding.location.column - 1 + finding.problem.length <= max(1, len(line))
        # What the daemon refuses is an error here, and only that is of RW1xx.
        refused = {one.location for one in filter_file.read(path.read_text(), str(path)).findings}
        told = {one.location for one in found if one.rule.startswith("RW1")}
        assert not subject.files or told <= refused
    print(f"\n{len(files)} files")
    for (rule, severity), count in sorted(rules.items()):
        print(f"{count:6} {rule} {severity}")
    assert len(files) >= 200
    assert rules["RW100", "error"] == 0, "a reason that no rule is about yet"


@corpus
def test_the_whole_corpus_in_one_call() -> None:
    files = [path for path in sorted(CORPUS.rglob("*")) if path.is_file() and path.parent != CORPUS]
    done = ctl("check", "--format", "json", *files)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["files"] == len(files)


TWO = "[Filters]\ndd: CommandFilter, dd, root\nls: RegExpFilter, ls, root, ls, ^-l$\n"


def rules_of(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.split(": ")[2] for line in done.stdout.splitlines()}


def test_select_and_ignore(tmp_path: Path) -> None:
    path = write(tmp_path / "x.filters", TWO)
    every = rules_of(ctl("check", "--format", "concise", path))
    assert len(every) > 1
    some = rules_of(ctl("check", "--format", "concise", "--select", "RW301,RW305", path))
    assert some == every & {"RW301", "RW305"} != set()
    assert rules_of(ctl("check", "--format", "concise", "--select", "RW3", "--ignore", "RW301", path)) == {
        rule for rule in every if rule.startswith("RW3") and rule != "RW301"
    }
    assert ctl("check", "--ignore", "RW", path).returncode == 0
    assert ctl("check", "--select", "RW999", path).returncode == 64


def of_stdin(*words: str) -> subprocess.CompletedProcess[str]:
    return CTL.run("check", *words, cwd=ROOT, input=TWO)


def test_standard_input() -> None:
    done = of_stdin("--format", "concise", "-")
    assert done.returncode == 1
    assert "-:2:20: error: RW301" in done.stdout
    assert "+ls: RegExpFilter, ls, root, ls, -l\n" in of_stdin("--fix", "--diff", "-").stdout
    assert ctl("check", "--fix", "-").returncode == 64
    assert ctl("check", "--fix", "/dev/null").returncode == 64


def test_fix_that_only_shows(tmp_path: Path) -> None:
    path = write(tmp_path / "x.filters", TWO)
    done = ctl("check", "--fix", "--diff", path)
    assert f"--- {path}\n+++ {path}\n" in done.stdout
    assert path.read_text() == TWO
    assert ctl("check", "--diff", path).returncode == 64


def test_a_baseline_leaves_old_findings_out(tmp_path: Path) -> None:
    path, baseline = write(tmp_path / "x.filters", TWO), tmp_path / "baseline"
    assert ctl("check", "--write-baseline", baseline, path).returncode == 0
    again = ctl("check", "--strict", "--baseline", baseline, "--format", "concise", path)
    assert (again.returncode, again.stdout) == (0, "")
    # Elsewhere in the file it is the old one; a second one is new.
    write(path, f"# A comment.\n{TWO}ee: CommandFilter, dd, root\n")
    more = ctl("check", "--baseline", baseline, "--select", "RW301", "--format", "concise", path)
    assert more.returncode == 1
    assert [line.split(":")[1] for line in more.stdout.splitlines()] == ["5"]
    write(baseline, "[]")
    assert ctl("check", "--baseline", baseline, path).returncode == 2


def test_a_baseline_replaces_nothing_but_a_file(tmp_path: Path) -> None:
    """As root, `/dev/null` would be a file from then on."""
    path, fifo, link = write(tmp_path / "x.filters", TWO), tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to("kept")
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE, text=True) as reader:
        assert ctl("check", "--write-baseline", fifo, path).returncode == 0
        assert reader.stdout is not None
        assert json.loads(reader.stdout.read())["version"] == 1
    assert fifo.is_fifo()
    assert ctl("check", "--write-baseline", link, path).returncode == 0
    assert link.is_symlink()
    assert (tmp_path / "kept").is_file()


def test_the_journal_shows_which_filters_are_used(tmp_path: Path) -> None:
    """A filter that is in use must not be reported as unused, whatever form the log has."""
    path = write(tmp_path / "x.filters", TWO)
    record = {"__REALTIME_TIMESTAMP": "1767225600000000", "ROOTWRAP_EVENT": "run", "ROOTWRAP_FILTER": "dd"}
    log = tmp_path / "log.gz"
    log.write_bytes(gzip.compress(json.dumps(record).encode()))
    done = ctl("check", "--audit-log", log, "--select", "RW404", "--format", "concise", path)
    assert [line.split(":")[1] for line in done.stdout.splitlines()] == ["3"]
