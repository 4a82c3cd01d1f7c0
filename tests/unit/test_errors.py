"""errors.py: one tree, whose codes and exit codes are promises to callers."""

import copy
import inspect
import pickle
import subprocess

import pytest

from rootwrap_daemon import errors
from rootwrap_daemon.errors import CommandFailed, CommandTimeout, Error

#: Class -> wire code, exit code. A change here is a change of what callers rely on.
PROMISED = {
    "Error": ("internal", 70),
    "Denied": ("denied", 99),
    "EnvironmentDenied": ("environment_denied", 99),
    "ProcessGone": ("process_gone", 99),
    "ExecutableNotFound": ("executable_not_found", 96),
    "BadRequest": ("bad_request", 64),
    "TooLarge": ("too_large", 64),
    "CommandTimeout": ("timeout", 124),
    "OutputLimit": ("output_limit", 75),
    "Busy": ("busy", 75),
    "Stopping": ("stopping", 75),
    "DaemonUnavailable": ("unavailable", 69),
    "OutcomeUnknown": ("outcome_unknown", 75),
    "Unauthorized": ("unauthorized", 77),
    "InternalError": ("internal", 70),
    "CommandFailed": ("command_failed", 1),
    "ProtocolError": ("internal", 76),
    "LocalProtocolError": ("internal", 76),
    "RemoteProtocolError": ("internal", 76),
    "ConfigurationError": ("internal", 78),
    "SelfCheckError": ("internal", 78),
    "Usage": ("internal", 64),
    "Unreadable": ("internal", 2),
}
NEVER_TRAVEL = {"Error", "CommandFailed", "ProtocolError", "LocalProtocolError", "RemoteProtocolError"} | {
    "ConfigurationError",
    "SelfCheckError",
    "Usage",
    "Unreadable",
}
CLASSES = dict(inspect.getmembers(errors, lambda one: inspect.isclass(one) and issubclass(one, Error)))


def test_the_whole_tree_is_promised() -> None:
    assert {name: (cls.code, cls.exit_code) for name, cls in CLASSES.items()} == PROMISED


def test_by_code() -> None:
    assert {cls.__name__ for cls in errors.BY_CODE.values()} == PROMISED.keys() - NEVER_TRAVEL
    assert {code: cls.code for code, cls in errors.BY_CODE.items()} == {code: code for code in errors.BY_CODE}


@pytest.mark.parametrize(
    ("cls", "bases"),
    [
        ("EnvironmentDenied", (errors.Denied,)),
        ("ProcessGone", (errors.Denied,)),
        ("TooLarge", (errors.BadRequest,)),
        ("SelfCheckError", (errors.ConfigurationError,)),
        ("CommandTimeout", (subprocess.TimeoutExpired, subprocess.SubprocessError)),
        ("CommandFailed", (subprocess.CalledProcessError, subprocess.SubprocessError)),
    ],
)
def test_also_caught_as(cls: str, bases: tuple[type[Exception], ...]) -> None:
    assert issubclass(CLASSES[cls], bases)


@pytest.mark.parametrize("name", CLASSES)
def test_message_and_request(name: str) -> None:
    plain = CLASSES[name]("what")
    assert (str(plain), plain.message, plain.request_id, plain.args) == ("what", "what", None, ("what",))
    named = CLASSES[name]("what", request_id="abc")
    assert (str(named), named.message, named.request_id) == ("what (request abc)", "what", "abc")


def test_what_subprocess_promises() -> None:
    timeout = CommandTimeout("late")
    assert (timeout.cmd, timeout.timeout) == (None, 0.0)
    assert (timeout.output, timeout.stdout, timeout.stderr) == (None, None, None)
    failed = CommandFailed("bad", returncode=-9, cmd=["x"], output=b"o", stderr=b"e")
    assert (failed.returncode, failed.cmd, failed.output, failed.stdout, failed.stderr) == (
        -9,
        ["x"],
        b"o",
        b"o",
        b"e",
    )
    assert str(failed) == "bad"


@pytest.mark.parametrize("name", CLASSES)
def test_copies(name: str) -> None:
    """multiprocessing and greenlets pass errors on."""
    error = CLASSES[name]("what", request_id="abc")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert str(other) == "what (request abc)"
