"""daemon/record/log.py: nobody waits for the reader of the log, and what is lost is counted."""

import contextlib
import fcntl
import logging
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon import config
from rootwrap_daemon.daemon.handover import Line, LogSettings
from rootwrap_daemon.daemon.record import journal, log
from rootwrap_daemon.daemon.start import read
from rootwrap_daemon.daemon.start.log_lines import Collected
from rootwrap_daemon.errors import ConfigurationError
from tests.real_daemon import wait_for

LOG = logging.getLogger("rootwrap_daemon.tests")
PLAIN = LogSettings(level=logging.INFO)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a Log sets for the whole process is set back."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level, logging.raiseExceptions
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    root.handlers[:], level, logging.raiseExceptions = kept
    root.setLevel(level)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


@contextlib.contextmanager
def standard_error(writer: int) -> Iterator[None]:
    """Not a fixture: pytest changes descriptor 2 after."""
    kept = os.dup(2)
    os.dup2(writer, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def pipe() -> Iterator[int]:
    """Our descriptor 2 is a pipe; the end to read."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with standard_error(writer):
        os.close(writer)
        yield reader
    os.close(reader)


def lines(settings: LogSettings, *, level: int = logging.WARNING, message: str = "said") -> str:
    """What a line looks like on standard error."""
    with pipe() as reader:
        made = log.Log(settings)
        LOG.log(level, "%s", message)
        made.close(None)
        os.set_blocking(reader, False)
        try:
            return os.read(reader, 65536).decode()
        except BlockingIOError:
            return ""


def test_formats_are_those_of_the_configuration() -> None:
    form = "%(levelname)s %(name)s [%(user_identity)s] %(instance)s%(message)s"
    settings = LogSettings(level=logging.DEBUG, format=form, debug_suffix="in %(funcName)s")
    assert lines(settings) == "WARNING rootwrap_daemon.tests [] said\n"
    assert lines(settings, level=logging.DEBUG) == "DEBUG rootwrap_daemon.tests [] said in lines\n"
    dated = LogSettings(level=logging.INFO, format="%(asctime)s %(message)s", date_format="at %Y")
    assert lines(dated).startswith("at 2")


def test_levels() -> None:
    assert lines(PLAIN, level=logging.DEBUG) == ""
    try:
        levels = (("rootwrap_daemon.tests", "DEBUG"),)
        assert lines(LogSettings(level=logging.INFO, levels=levels), level=logging.DEBUG) == "said\n"
    finally:
        LOG.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("level", "mark"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_priorities_stand_before_each_line(level: int, mark: int) -> None:
    settings = LogSettings(level=logging.DEBUG, prefixed=True)
    assert lines(settings, level=level, message="one\ntwo") == f"<{mark}>one\n<{mark}>two\n"


@pytest.mark.parametrize(
    ("prefixed", "line", "begins"),
    [
        (True, "", "%(levelname)s"),
        (False, "", "%(asctime)s"),
        (True, "log_file = /var/log/x", "%(asctime)s"),
        (True, "logging_default_format_string = %(asctime)s %(message)s", "%(asctime)s"),
    ],
)
def test_the_journal_has_time_and_pid_by_itself(
    tmp_path: Path, prefixed: bool, line: str, begins: str
) -> None:
    path = tmp_path / "daemon.conf"
    path.write_text(f"[DEFAULT]\n{line}\n")
    _, conf = config.load(str(path))
    settings = read._log_settings(conf, prefixed)
    assert settings.format.startswith(begins)
    if "format" not in line:
        assert settings.exception_prefix.startswith(begins.replace("%(levelname)s", "ERROR"))


@pytest.mark.parametrize(
    "option", ["logging_default_format_string", "logging_debug_format_suffix", "logging_exception_prefix"]
)
@pytest.mark.parametrize("text", ["%(no_such)s", "%(message)", "%d", "%(message)d"])
def test_a_format_that_is_none(option: str, text: str) -> None:
    name = {
        "logging_default_format_string": "format",
        "logging_debug_format_suffix": "debug_suffix",
        "logging_exception_prefix": "exception_prefix",
    }[option]
    with pytest.raises(ConfigurationError, match=option):
        log.Log(LogSettings(level=logging.INFO, **{name: text}))  # type: ignore[arg-type]


def test_exceptions_have_a_prefix_on_each_line() -> None:
    settings = LogSettings(level=logging.INFO, exception_prefix="! %(name)s ")
    with pipe() as reader:
        made = log.Log(settings)
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            LOG.exception("failed")
        made.close(None)
        found = os.read(reader, 65536).decode().splitlines()
    assert found[0] == "failed"
    assert all(line.startswith("! rootwrap_daemon.tests ") for line in found[1:])
    assert found[-2:] == ["! rootwrap_daemon.tests ValueError: first", "! rootwrap_daemon.tests second"]


def test_nobody_waits_for_a_reader_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_MOST", 50)
    with pipe() as reader:
        made = log.Log(PLAIN)
        for number in range(500):
            LOG.warning("%d %s", number, "x" * 1000)
        # Each that went through is whole, and the rest is counted.
        found = b""
        LOG.error("last")
        os.set_blocking(reader, False)

        def heard() -> bool:
            nonlocal found
            with contextlib.suppress(BlockingIOError):
                found += os.read(reader, 65536)
            LOG.error("last")
            return b"last" in found

        wait_for(heard)
        made.close()
    said = found.decode().splitlines()
    lost = [int(line.split()[0]) for line in said if line.endswith("their reader did not keep up")]
    written = [line for line in said if line.endswith("x" * 1000)]
    assert lost
    assert sum(lost) >= 500 - len(written)
    assert 4 <= len(written) < 100


def test_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_MOST", 5)
    with pipe() as reader:
        made = log.Log(PLAIN)
        for _ in range(100):
            LOG.warning("x" * 1000)
        made.close(0.05)
        assert os.read(reader, 100)


def test_a_line_longer_than_a_pipe_is_whole() -> None:
    program = (
        "import logging; from rootwrap_daemon.daemon.record.log import Log, LogSettings\n"
        "made = Log(LogSettings(level=0)); logging.error('y' * 1000000); made.close(None)"
    )
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=True, timeout=60)
    assert done.stderr == b"y" * 1000000 + b"\n"


def test_a_descriptor_made_not_to_block_by_another() -> None:
    """All of it arrives: who shares the pipe may set O_NONBLOCK."""
    with pipe() as reader:
        os.set_blocking(2, False)
        made = log.Log(PLAIN)
        LOG.warning("z" * 20_000)
        found = b""
        while not found.endswith(b"\n"):
            found += os.read(reader, 4096)
        made.close(None)
    assert found == b"z" * 20_000 + b"\n"


@pytest.mark.parametrize("mode", [os.O_PATH, os.O_RDONLY])
def test_a_descriptor_that_cannot_be_written(tmp_path: Path, mode: int) -> None:
    (tmp_path / "file").write_text("")
    descriptor = os.open(tmp_path / "file", mode)
    with standard_error(descriptor):
        made = log.Log(PLAIN)
        LOG.warning("lost")
        made.close(None)
    os.close(descriptor)
    assert (tmp_path / "file").read_text() == ""


def test_a_file_that_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    made = log.Log(LogSettings(level=logging.INFO, stderr=False, file=str(path)))
    LOG.warning("one \udcff")
    wait_for(lambda: path.read_text() == "one \\udcff\n")
    path.rename(tmp_path / "old")
    LOG.warning("two")
    made.close(None)
    assert path.read_text() == "two\n"


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="log_file"):
        log.Log(LogSettings(level=logging.INFO, file=str(tmp_path / "no" / "x")))


@pytest.mark.parametrize("facility", ["LOG_NOWHERE", "", "err", "LOG_PID", "emerg"])
def test_a_facility_that_is_none(facility: str) -> None:
    if facility:
        with pytest.raises(ConfigurationError, match="syslog_log_facility"):
            log.Log(LogSettings(level=logging.INFO, syslog=facility))
    else:
        log.Log(LogSettings(level=logging.INFO, syslog=facility)).close()


def test_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "journal"))
    with pytest.raises(ConfigurationError, match="use_journal"):
        log.Log(LogSettings(level=logging.INFO, stderr=False, journal=True))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "journal"))
        made = log.Log(LogSettings(level=logging.INFO, stderr=False, journal=True))
        LOG.error("one\ntwo")
        made.close(None)
        data = heard.recv(65536)
    assert b"PRIORITY=3\n" in data
    assert b"SYSLOG_IDENTIFIER=rootwrap-daemon\n" in data
    assert b"LOGGER_NAME=rootwrap_daemon.tests\n" in data
    assert b"MESSAGE\n\x07\0\0\0\0\0\0\0one\ntwo\n" in data


def test_whatever_python_says_goes_to_the_log() -> None:
    """Written to standard error it would wait there."""

    def fail() -> None:
        raise ValueError("in a thread")

    with pipe() as reader:
        made = log.Log(PLAIN)
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        warnings.warn("deprecated", stacklevel=1)
        sys.excepthook(ValueError, ValueError("at the end"), None)
        made.close(None)
        said = os.read(reader, 65536).decode()
    assert "ValueError: in a thread" in said
    assert "ValueError: at the end" in said
    assert "deprecated" in said


def test_lines_of_the_program_before() -> None:
    with Collected() as collected:
        LOG.info("%d", 1)
        LOG.debug("no")
        try:
            raise ValueError("why")
        except ValueError:
            LOG.exception("two")
    assert [(line.logger, line.level) for line in collected.lines] == [
        ("rootwrap_daemon.tests", logging.INFO),
        ("rootwrap_daemon.tests", logging.ERROR),
    ]
    assert collected.lines[1].message.endswith("ValueError: why")
    with pipe() as reader:
        made = log.Log(LogSettings(level=logging.WARNING, format="%(created)d %(message)s"))
        made.write((Line("a", logging.WARNING, 7.5, "50 %s"), Line("a", logging.INFO, 8, "not this")))
        made.close(None)
        assert os.read(reader, 4096) == b"7 50 %s\n"
