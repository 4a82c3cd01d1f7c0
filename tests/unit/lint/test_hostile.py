"""Whatever stands in a file: findings in it, never an exception."""

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from rootwrap_daemon.lint import fix
from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.output import report
from rootwrap_daemon.lint.output.sarif import sarif
from rootwrap_daemon.lint.subject import Host, Subject, read_config, read_filters

KINDS = """CommandFilter RegExpFilter PathFilter KillFilter ReadFileFilter IpFilter EnvFilter ChainingFilter
IpNetnsExecFilter ChainingRegExpFilter ArgvFilter NoFilter""".split()
FIELDS = """ip env sh dd root nobody /etc pass .* (a+)+ a|b ^x$ [./-[] {any} {path=/tmp} {pid=ls} [{int}]
-9 -HUP / LD_PRELOAD= LC_ALL=C --privsep_context privsep-helper kill /dev/(?!.*).* # ; \\
\u200b [ ( {1 é""".split()
line = st.one_of(
    st.builds(
        lambda name, kind, fields: f"{name}: {', '.join((kind, *fields))}",
        st.sampled_from("abAB"),
        st.sampled_from(KINDS),
        st.lists(st.sampled_from(FIELDS), max_size=6),
    ),
    st.sampled_from(
        [
            "[Filters]",
            "[a]",
            "[DEFAULT]",
            "",
            " ,x",
            "x",
            "# rw: ignore",
            "# rw: ignore RW301 why",
            "# rw: ignore RW1",
        ]
    ),
    st.sampled_from(
        ["opens_paths = no", "env = PATH, LD_X", "timeout = x", "filters_path = /a, b,", "exec_dirs=, /x"]
    ),
    st.text(max_size=20),
)
texts = st.lists(line, max_size=12).map("\n".join)
HOST = Host(("/usr/bin", "/nonexistent"), frozenset((0,)))


@settings(max_examples=150, deadline=None)
@given(texts, st.booleans())
def test_findings_and_no_exception(text: str, has_filters: bool) -> None:
    text = f"[Filters]\n{text}" if has_filters else text
    subject = Subject(
        (read_filters(text, "x.filters"),), (read_config(text, "x.conf"),), HOST, frozenset("a")
    )
    found = judge(subject)
    rows = text.split("\n")
    for finding in found:
        assert 1 <= finding.location.line <= len(rows)
        assert finding.problem.what
        assert finding.problem.instead
    for form in (report.plain, report.as_json, report.github, sarif):
        form(found, 1, io.StringIO())
    mended, _ = fix.corrected(text, [one for one in found if one.location.file == "x.filters"])
    after = judge(Subject((read_filters(mended, "x.filters"),)))
    before = [one.filter for one in subject.files[0].lines if one.filter is not None]
    left = [one.filter for one in read_filters(mended, "x.filters").lines if one.filter is not None]
    assert {one.name.lower() for one in before} == {one.name.lower() for one in left}
    assert len(after) <= len([one for one in found if one.location.file == "x.filters"])
