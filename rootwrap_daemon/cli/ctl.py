"""Run rootwrapctl: one command for filters, policies or a running daemon.

Promises: a command's module is imported when that command is used, and not before; errors are one line.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from rootwrap_daemon.errors import Error, Unreadable, Usage
from rootwrap_daemon.escape import printable
from rootwrap_daemon.usage import Parser, did_you_mean

#: The modules in `commands` that are commands; one is called as its module, with `-` for `_`. It has
#:
#: * a docstring, whose first line is the command's help;
#: * `EPILOG`: what stands below its help, with an example;
#: * `configure(parser: argparse.ArgumentParser) -> None`: its arguments;
#: * `run(args: argparse.Namespace) -> int`: do it, and the exit code. May raise any `errors.Error`.
COMMANDS: Final[tuple[str, ...]] = tuple(
    "check rules explain test suggest diff from-sudoers list instances recipe install uninstall status audit"
    " metrics completion".split()
)

_EXAMPLE: Final = "example:\n  rootwrapctl check /etc/nova/rootwrap.d"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Raises SystemExit where argparse does."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        # Who types the bare name wants to know what there is; a script that does has made a mistake.
        _overview().print_help(sys.stderr)
        return Usage.exit_code
    name, *rest = words
    if name not in COMMANDS:
        if name.startswith("-"):
            _overview().parse_args(words)
        overview = _overview()
        overview.error(f"there is no command {name}{did_you_mean(name, COMMANDS)}")
    module = load(name)
    args = parser_of(name).parse_args(rest)
    try:
        code: int = module.run(args)
        # What is still buffered may meet a closed pipe too.
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough; the interpreter's own flush at the end must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Error as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        told = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
        return _fail(told, Unreadable.exit_code)
    return code


def _fail(message: str, code: int) -> int:
    line = "; ".join(message.splitlines())
    print(f"rootwrapctl: {printable(line)}", file=sys.stderr)
    return code


def load(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"rootwrap_daemon.cli.commands.{name.replace('-', '_')}")


def parser_of(name: str) -> Parser:
    """The parser of a command."""
    module = load(name)
    parser = Parser(f"rootwrapctl {name}", help_of(module), epilog=module.EPILOG)
    module.configure(parser)
    return parser


def help_of(module: ModuleType) -> str:
    """The help of a command, in a line."""
    return (module.__doc__ or "").partition("\n")[0]


def _overview() -> Parser:
    """The parser for a command line that names no command: it shows what there is, and ends."""
    from rootwrap_daemon.cli import data_files

    parser = Parser("rootwrapctl", "Check, explain and test filters; look after the daemon.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        commands.add_parser(name, description="", help=help_of(load(name)), add_help=False)
    parser.epilog = f"{_EXAMPLE}\n\n`rootwrapctl COMMAND --help` has the arguments of each, with an example."
    if data_files.has_manual():
        names = "`man rootwrapctl`, `man rootwrap-filters` and `man rootwrap-daemon.conf`"
        parser.epilog += f"\n{names} have the rest."
    return parser


if __name__ == "__main__":
    sys.exit(main())
