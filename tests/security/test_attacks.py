"""The attack cases of ../shared/attacks, each judged by a real daemon: what is firm must be as expected.

A case that is not firm is a choice; ours are listed with their reasons, and any other difference fails.
"""

import base64
import contextlib
import io
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.analysis import load
from rootwrap_daemon.analysis.explain import explain
from rootwrap_daemon.cli import ctl
from rootwrap_daemon.errors import BadRequest, Unreadable
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Match, Request
from tests.real_daemon import HELLO, Daemon, NewDaemon, frame, raw

CASES = Path(__file__).parents[3] / "shared" / "attacks" / "attacks.jsonl"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not CASES.exists(), reason="../shared/attacks is not here: it comes with the project"),
    pytest.mark.timeout(300),
]

#: Cases that are not firm and that we answer otherwise than they propose, with the reason.
CHOICES = {
    "ChainingRegExpFilter-647": "a chain without patterns is refused at load, and the file with it",
    "EnvFilter-508": "a line break is no printable value",
    "IpNetnsExecFilter-564": "/bin/cat and /usr/bin/cat are one file where /bin is a link",
    **dict.fromkeys(
        ("IpFilter-451", "IpFilter-454", "IpFilter-455", "IpFilter-457"),
        "what ip does to links and addresses is what an IpFilter gives; narrower is a RegExpFilter",
    ),
    **dict.fromkeys(
        (
            "RegExpFilter-205",
            "RegExpFilter-209",
            "RegExpFilter-210",
            "RegExpFilter-216",
            "RegExpFilter-222",
            "RegExpFilter-223",
        ),
        "the pattern says so; what a pattern lets through is for the checks before a filter ships",
    ),
}

#: Cases that are called firm, and that a decision of ours answers otherwise, with the decision.
DECIDED = {
    "CommandFilter-003": "the same file by another path of trusted owners is the same program: filters.rst"
}


def cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CASES.read_text().splitlines()]


def alike(cases: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Cases of the same filters on the same host together: for them the daemon is reloaded once."""
    found: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        found.setdefault(json.dumps((case["filters"], case.get("setup"))), []).append(case)
    return list(found.values())


class Scene:
    """What a case wants on the host, and the placeholders that stand for it."""

    def __init__(self, directory: Path, daemon: Daemon) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.words = {"{TMP}": str(directory), "{SELF}": str(daemon.pid)}
        self.directory = directory

    def filled(self, value: Any) -> Any:
        if isinstance(value, str):
            for name, text in self.words.items():
                value = value.replace(name, text)
            return value
        return [self.filled(item) for item in value] if isinstance(value, list) else value

    def set_up(self, steps: list[Any]) -> None:
        for step in steps:
            name, *rest = self.filled(step)
            getattr(self, f"do_{name}")(*rest)

    def do_dir(self, path: str, mode: str = "0755") -> None:
        os.makedirs(path, exist_ok=True)
        os.chmod(path, int(mode, 8))

    def do_file(self, path: str) -> None:
        Path(path).write_text("x")

    def do_exe(self, path: str, text: str, mode: str) -> None:
        Path(path).write_text(text)
        os.chmod(path, int(mode, 8))

    def do_symlink(self, path: str, target: str) -> None:
        os.symlink(target, path)

    def do_chown(self, path: str, uid: int) -> None:
        os.chown(path, uid, uid)

    def do_lchown(self, path: str, uid: int) -> None:
        os.lchown(path, uid, uid)

    def do_exe_copy(self, source: str, path: str) -> None:
        shutil.copy(source, path)
        os.chmod(path, 0o755)

    def do_replace(self, source: str, path: str) -> None:
        self.do_exe_copy(source, f"{path}.new")
        os.rename(f"{path}.new", path)

    def do_proc(self, *argv: str) -> None:
        index = len(self.processes)
        process = subprocess.Popen(argv)
        self.processes.append(process)
        digits = str(process.pid)
        self.words |= {
            f"{{PID{index}}}": digits,
            f"{{PID{index}_}}": "_".join(digits),
            f"{{PID{index}ar}}": "".join(chr(0x660 + int(digit)) for digit in digits),
            f"{{PID{index}fw}}": "".join(chr(0xFF10 + int(digit)) for digit in digits),
        }

    def do_proc_deleted(self, executable: str, argv0: str) -> None:
        path = self.directory / "deleted"
        self.do_exe_copy(executable, str(path))
        process = subprocess.Popen([argv0, "1000"], executable=path)
        self.processes.append(process)
        self.words["{PID0}"] = str(process.pid)
        path.unlink()

    def do_zombie(self) -> None:
        process = subprocess.Popen(["/bin/true"])
        # Ended, and not waited for.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.processes.append(process)
        self.words["{ZOMBIE}"] = str(process.pid)

    def take_down(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def staged(daemon: Daemon, case: dict[str, Any]) -> Iterator[tuple[Scene, bool]]:
    """The daemon with the filters of a case; False if it does not take them."""
    directory = daemon.directory / "scene"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o755)
    scene = Scene(directory, daemon)
    try:
        scene.set_up(case.get("setup", []))
        daemon.configure("[Filters]\n" + "\n".join(scene.filled(case["filters"])) + "\n")
        yield scene, daemon.reload()
    finally:
        scene.take_down()


def judge(daemon: Daemon, argv: Any) -> str:
    """`allow` or `deny`, through the client where it would send that, else as raw messages."""
    if isinstance(argv, list) and all(isinstance(word, str) for word in argv):
        with daemon.client() as client:
            try:
                return "allow" if client.allows(argv).allowed else "deny"
            except BadRequest:
                return "deny"
    plain = [_bytes(word) for word in argv] if isinstance(argv, list) else argv
    answers = raw(daemon, HELLO + frame([2, plain, []]))
    assert b"bad_request" in answers
    return "deny"


def _bytes(word: Any) -> Any:
    return base64.b64decode(word["__bytes__"]) if isinstance(word, dict) else word


def by_command(daemon: Daemon, commands: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    """What `rootwrapctl explain` prints of each, in a child: it gives up root for good."""
    with tempfile.TemporaryFile("w+") as answers:
        child = os.fork()
        if child == 0:
            # Whatever is raised here ends the child: it is a copy of this test run.
            try:
                for argv in commands:
                    text = io.StringIO()
                    with contextlib.redirect_stdout(text):
                        code = ctl.main(
                            ["explain", "--config-file", str(daemon.config), "--json", "--", *argv]
                        )
                    answer = {**json.loads(text.getvalue()), "code": code, "uids": os.getresuid()}
                    print(json.dumps(answer), file=answers, flush=True)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        answers.seek(0)
        return [json.loads(line) for line in answers]


@dataclass
class Explained:
    """How `explain` compares with the daemon, case by case."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, str, bool]] = field(default_factory=list)

    def compare(self, daemon: Daemon, loaded: bool, verdicts: dict[str, tuple[Any, bool]]) -> None:
        """`verdicts`: for each case its words and what the daemon said, all of the same filters."""
        first = next(iter(verdicts))
        found: load.Source | None
        try:
            found = load.from_config(str(daemon.config))
            stops = any("would not start" in note for note in found.notes)
        except Unreadable:
            # Not one filter of it is left, or there: nothing to judge by.
            found, stops = None, not loaded
        if stops == loaded:
            self.wrong.append((first, "loads", loaded))
        asked: dict[str, tuple[str, ...]] = {}
        for case, (argv, by_daemon) in verdicts.items():
            if not loaded:
                self.counts["not loaded"] += 1
            elif not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
                # Other types on the wire: nothing that words could be.
                self.counts["no words"] += 1
            elif found is None:
                assert not by_daemon
                self.counts["no filter"] += 1
            else:
                # As root, in this process: the same eyes, the same verdict.
                if explain(found, tuple(argv)).allowed != by_daemon:
                    self.wrong.append((case, "root", by_daemon))
                self.counts["compared"] += 1
                if argv and not any("\0" in word for word in argv):
                    asked[case] = tuple(argv)
        # As the command does it, without root: the same verdict, or that it could not see.
        answers = by_command(daemon, list(asked.values())) if asked else []
        for case, answer in zip(asked, answers, strict=True):
            assert answer["uids"] == [61234, 61234, 61234]
            assert answer["code"] == (0 if answer["allowed"] else 1)
            self.counts["certain" if answer["certain"] else "not certain"] += 1
            if answer["certain"] and answer["allowed"] != verdicts[case][1]:
                self.wrong.append((case, "command", verdicts[case][1]))


def test_every_case(new_daemon: NewDaemon) -> None:
    """By the daemon as it should be, and by `rootwrapctl explain` as by the daemon."""
    daemon = new_daemon(
        "[Filters]\n",
        exec_dirs="/sbin,/usr/sbin,/bin,/usr/bin",
        syslog_log_level="INFO",
        allowed_users="0, 61234",
    )
    counts: Counter[str] = Counter()
    wrong = []
    explained = Explained()
    for group in alike(cases()):
        with staged(daemon, group[0]) as (scene, loaded):
            verdicts = {}
            for case in group:
                argv = scene.filled(case["argv"])
                got = judge(daemon, argv) if loaded else "deny"
                verdicts[case["id"]] = (argv, got == "allow")
                decided = case["id"] in DECIDED and os.path.samefile("/bin/cat", "/usr/bin/cat")
                firm = "firm" if case["firm"] and not decided else "choice"
                as_expected = got == case["expect"]
                counts[f"{firm} {'as expected' if as_expected else 'otherwise'}"] += 1
                if as_expected == (case["id"] in CHOICES or decided) or (firm == "firm" and not as_expected):
                    wrong.append((case["id"], case["expect"], got, case["why"]))
            explained.compare(daemon, loaded, verdicts)
    print(dict(counts), dict(explained.counts))
    assert wrong == []
    assert explained.wrong == []
    assert explained.counts["compared"] > 350
    assert explained.counts["not certain"] < explained.counts["certain"] / 10


def test_variables_of_caller_and_starter_never_arrive(new_daemon: NewDaemon) -> None:
    scrubbed = [case for case in cases() if case.get("scrub")]
    dirty = {name: value for case in scrubbed for name, value in case["env"].items()}
    # These would change the daemon's own interpreter or libraries before it could do anything about it, and
    # PATH is how this test finds programs; they come from the caller in the second half.
    unusable = {"PATH", "LD_AUDIT", "LD_LIBRARY_PATH", "MALLOC_TRACE", "GLIBC_TUNABLES"}
    daemon = new_daemon("[Filters]\n", start=False, syslog_log_level="INFO")
    daemon.environ = {name: value for name, value in dirty.items() if name not in unusable}
    daemon.start()
    ran = 0
    for group in alike(scrubbed):
        with staged(daemon, group[0]) as (scene, loaded):
            assert loaded
            for case in group:
                old = dict(os.environ)
                os.environ.update(case["env"])
                try:
                    with daemon.client() as client:
                        done = client.run(scene.filled(case["argv"]), text=True)
                finally:
                    os.environ.clear()
                    os.environ.update(old)
                child = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
                for name in case["scrub"]:
                    assert child.get(name) in (None, "") or child[name] != case["env"][name], name
                ran += 1
    print(f"{ran} run for real")
    assert ran == len(scrubbed) > 30


def test_order_of_lines_decides_nothing() -> None:
    """Which filter says so may depend on it, whether one does must not."""
    compared = 0
    for case in cases():
        words, lines = case["argv"], case["filters"]
        if len(lines) < 2 or not isinstance(words, list) or not words:
            continue
        if not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:
            continue
        verdicts = set()
        for order in itertools.islice(itertools.permutations(lines), 24):
            text = "[Filters]\n" + "\n".join(order) + "\n"
            found = RuleSet(filter_file.read(text, "f").filters).match(Request(tuple(words)))
            halves = [filter_file.read(f"[Filters]\n{line}\n", "f").filters for line in order]
            split = RuleSet(one for half in halves for one in half).match(Request(tuple(words)))
            verdicts |= {isinstance(found, Match), isinstance(split, Match)}
        # A name twice is refused within one file, and fine in two.
        names = [line.partition(":")[0].strip().lower() for line in lines]
        assert len(verdicts) == 1 or len(set(names)) < len(names), case["id"]
        compared += 1
    assert compared > 50
