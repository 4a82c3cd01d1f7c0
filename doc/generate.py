"""Write the pages of the reference that are made from the code: errors, commands, rules.

Sphinx calls this before it reads the pages (conf.py); `python doc/generate.py` does the same by hand. They
are not committed.
"""

import inspect
import os
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
# argparse wraps help to the terminal.
os.environ["COLUMNS"] = "100"

from rootwrap_daemon import errors  # noqa: E402
from rootwrap_daemon.cli import ctl  # noqa: E402
from rootwrap_daemon.lint.check import known_rules  # noqa: E402
from rootwrap_daemon.lint.output import manual  # noqa: E402

#: What to do about each error, by its class; the class itself says what happened.
REMEDIES: Final = {
    "Denied": "See :doc:`../denied`. Asking again does not help.",
    "EnvironmentDenied": "Leave the variable out, or name it in the filter's option ``env``.",
    "ProcessGone": "Nothing: the process is not there any more.",
    "ExecutableNotFound": "Install the program, or add its directory to ``exec_dirs``; the record names it.",
    "BadRequest": "Correct the caller: words are not empty at the front and have no NUL.",
    "TooLarge": "Ask for less at once; with ``popen`` what goes through pipes has no limit.",
    "CommandTimeout": "Give more time (``timeout`` of call or filter, ``command_timeout``), or find out why.",
    "OutputLimit": 'Take the output by ``capture="pipe"`` or ``popen``, or raise ``max_output``.',
    "Busy": "Ask again later, fewer at once; ``max_commands`` and ``max_connections`` are the bounds.",
    "Stopping": "Ask again when the daemon is back; with systemd's socket the next request waits for it.",
    "DaemonUnavailable": "Start the daemon, or correct the socket's path: ``rootwrapctl instances``.",
    "OutcomeUnknown": "Look at the state of what was to change before asking again: it may have run.",
    "Unauthorized": "Add the user to ``allowed_users`` or a group to ``allowed_groups``, and reload.",
    "InternalError": "Look at the daemon's log at the time of the record. The daemon goes on.",
    "CommandFailed": "The command's own affair: ``returncode`` and ``stderr`` say what.",
    "LocalProtocolError": "Use no client after its ``close``; anything else is a flaw here: report it.",
    "RemoteProtocolError": "No daemon of this protocol is at that socket: compare versions.",
    "ConfigurationError": "Do what the message says at the place that it names.",
    "Usage": "Do what the message says; ``--help`` shows every option.",
    "Unreadable": "Name a file that is there and may be read: nothing was judged.",
    "SelfCheckError": "Install the daemon where only root can write, and start it as the message says.",
}
_INTRODUCTION: Final = """\
What a client raises and a program ends with. The code is what travels, and what records have; the exit code
is that of ``rootwrap-exec``, ``rootwrapctl`` and ``rootwrap-daemon`` alike, except where a man page says
otherwise. All are in ``rootwrap_daemon/errors.py``, those of a client in ``rootwrap_daemon.client`` too.

"""
_MARK: Final = ".. Made from the code by doc/generate.py.\n\n"


def _title(text: str) -> str:
    line = "=" * len(text)
    return f"{line}\n{text}\n{line}\n\n"


def _heading(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n\n"


def classes() -> list[type[errors.Error]]:
    """List the errors that are raised: those that no other only groups."""
    found = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.Error)]
    return [one for one in found if one not in (errors.Error, errors.ProtocolError)]


def error_page() -> str:
    """Write what each error means, what ends with which code, and what to do."""
    travels = set(errors.BY_CODE.values())
    parts = [
        _MARK,
        _title("Errors and exit codes"),
        _INTRODUCTION,
        ".. list-table::\n   :header-rows: 1\n\n   * - error\n     - code\n     - exit code\n",
    ]
    parts += [
        f"   * - :ref:`{one.__name__} <{one.__name__}>`\n     - ``{one.code}``\n     - {one.exit_code}\n"
        for one in classes()
    ]
    for one in classes():
        said = inspect.cleandoc(one.__doc__ or "").replace("`", "``")
        parts += [f"\n.. _{one.__name__}:\n\n", _heading(one.__name__)]
        sent = "" if one in travels else " It is never on the wire."
        parts.append(f"Code ``{one.code}``, exit code {one.exit_code}.{sent}\n\n{said}\n\n*What to do:* ")
        parts.append(f"{REMEDIES[one.__name__]}\n")
    return "".join(parts)


def command_page() -> str:
    """Write the help of every command."""
    parts = [
        _MARK,
        _title("Commands of rootwrapctl"),
        "What ``--help`` of each says. What they are for stands in :doc:`../man/rootwrapctl`.\n\n",
    ]
    for name in ctl.COMMANDS:
        help_lines = ctl.parser_of(name).format_help().splitlines()
        shown = "".join(f"    {line}".rstrip() + "\n" for line in help_lines)
        parts += [_heading(name), f".. code-block:: text\n\n{shown}\n"]
    return "".join(parts)


def rule_page() -> str:
    """Write every rule of `rootwrapctl check`."""
    return manual.page(known_rules().values())


PAGES: Final = {"errors.rst": error_page, "commands.rst": command_page, "rules.rst": rule_page}


def write(directory: Path) -> None:
    """Write those pages of the reference that are not as they should be."""
    for name, page in PAGES.items():
        text, path = page(), directory / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    write(ROOT / "doc/source/reference")
