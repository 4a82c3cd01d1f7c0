"""Take a command line of sudo, and have the command run by the daemon: `rootwrap-sudo`, to be called `sudo`.

Promises: what sudo does and the daemon does not is refused in sudo's words, with its exit code; no option is
left out that would have the command run with less.
"""

import os
import pwd
import sys

from rootwrap_daemon.cli.exec import main as program
from rootwrap_daemon.cli.exec.options import Failed, Options, printable, version
from rootwrap_daemon.openstack import socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

USAGE = """\
usage: sudo [-ABHkNnS] [-p prompt] [-u user] [--preserve-env=list] [VAR=value] [--] command [arg ...]
usage: sudo -l [-u user] command [arg ...]
usage: sudo -K | -k | -V | -v | -h
"""
#: Options that change nothing here: there is no password, no record of one, and HOME is always the user's.
_NOTHING = "ABHkKNnpSvl"
#: Those that take a value.
_VALUED = "CDgpRrTtUuX"
_LONG = {
    "askpass": "A", "background": "b", "bell": "B", "chdir": "D", "chroot": "R", "close-from": "C",
    "command-timeout": "T", "edit": "e", "group": "g", "help": "h", "host": "X", "list": "l", "login": "i",
    "no-update": "N", "non-interactive": "n", "other-user": "U", "preserve-env": "E",
    "preserve-groups": "P", "prompt": "p", "remove-timestamp": "K", "reset-timestamp": "k", "role": "r",
    "set-home": "H", "shell": "s", "stdin": "S", "type": "t", "user": "u", "validate": "v", "version": "V",
}  # fmt: skip


class Sudo(Options):
    """A command line of sudo. `list`: `-l`, what is allowed is printed and not run."""

    def __init__(self, words: "list[str]") -> None:
        """Raises Failed."""
        self.socket = socket_path()
        self.env: list[tuple[bytes, bytes]] = []
        self.timeout: float | None = None
        # Without -u, sudo means root, whatever the filter's first user is.
        self.user: str | None = "root"
        self.no_input = self.check = self.list = False
        self.shown: str | None = None
        self.argv: list[str] = []
        self._given = ""
        self._group = ""
        self._read(list(words))
        self._judge()

    def _read(self, rest: "list[str]") -> None:
        while rest and (rest[0][:1] == "-" or "=" in rest[0][1:]):
            word = rest.pop(0)
            if word == "--":
                break
            if word[0] != "-":
                variable, _, value = os.fsencode(word).partition(b"=")
                self.env.append((variable, value))
            elif word.startswith("--"):
                name, equals, text = word[2:].partition("=")
                meant = [name] if name in _LONG else [one for one in _LONG if one.startswith(name)]
                option = _LONG[meant[0]] if len(meant) == 1 else ""
                if option == "E" and equals:
                    self._keep(text)
                elif not option or (equals and option not in _VALUED):
                    raise Failed(f"unrecognized option '{word}'", 1)
                elif option in _VALUED:
                    self._take(option, text if equals else self._value(rest, word))
                else:
                    self._given += option
            else:
                self._bundle(word[1:], rest)
        self.argv = rest

    def _bundle(self, letters: str, rest: "list[str]") -> None:
        while letters:
            option, letters = letters[0], letters[1:]
            if option not in _LONG.values() or option == "X":
                raise Failed(f"invalid option -- '{option}'", 1)
            if option in _VALUED:
                self._take(option, letters or self._value(rest, option))
                return
            self._given += option

    def _value(self, rest: "list[str]", option: str) -> str:
        if not rest:
            raise Failed(f"option requires an argument -- '{option}'", 1)
        return rest.pop(0)

    def _take(self, option: str, value: str) -> None:
        if option == "u":
            self.user = "root" if value == "#0" else value
        elif option == "g":
            self._group = value
        else:
            self._given += option

    def _keep(self, names: str) -> None:
        for name in filter(None, map(os.fsencode, names.split(","))):
            if name in os.environb:
                self.env.append((name, os.environb[name]))

    def _judge(self) -> None:
        """Refuse what is not done here. Raises Failed."""
        given = self._given
        self.check = self.list = "l" in given
        if "h" in given or "V" in given:
            self.shown = USAGE if "h" in given else f"rootwrap-sudo {version()}\n"
            return
        if "e" in given:
            raise self.sorry(f"sudoedit {' '.join(self.argv)}")
        if "i" in given or "s" in given:
            raise self.sorry(os.environ.get("SHELL") or "/bin/sh")
        if "E" in given:
            raise Failed("sorry, you are not allowed to preserve the environment", 1)
        for option in given:
            if option not in _NOTHING:
                raise Failed(f"you are not permitted to use the -{option} option", 1)
        if not self.argv and self.list:
            raise self.sorry("list")
        if self._group:
            raise self.sorry(" ".join(self.argv))
        if not self.argv and set(given) & set("kKv"):
            self.shown = ""
        elif not self.argv or "K" in given or "v" in given:
            raise Failed(USAGE.rstrip(), 1, "usage")
        elif not self.argv[0]:
            raise Failed(": command not found", 1)

    def sorry(self, command: str) -> Failed:
        """Return what sudo says of a command that is not allowed."""
        try:
            # Not USER, which is whatever somebody set.
            who = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            who = f"#{os.getuid()}"
        target = (self.user or "") + (f":{self._group}" if self._group else "")
        host = os.uname().nodename.partition(".")[0]
        text = f"Sorry, user {who} is not allowed to execute '{command}' as {target} on {host}."
        return Failed(text, 1, "denied")

    def said(self, failed: Failed) -> str:
        """Return what sudo says where the daemon, or this program, failed so."""
        # Below sudo's words the daemon's own, with the id that its record has.
        if failed.reason == "denied":
            return f"{self.sorry(' '.join(self.argv))}\nsudo: {failed}"
        if failed.reason == "environment_denied":
            names = str(failed).partition("variables: ")[2].partition(" (request")[0]
            sorry = "sorry, you are not allowed to set the following environment variables"
            return f"sudo: {sorry}: {names}\nsudo: {failed}"
        if failed.reason == "executable_not_found":
            return f"sudo: {self.argv[0]}: command not found"
        return f"sudo: {failed}"


def main() -> "NoReturn":
    """Entry point of `rootwrap-sudo`."""
    program.end_at_once()
    program.NAME = "sudo"
    try:
        options = Sudo(sys.argv[1:])
    except Failed as failed:
        _say(str(failed) if failed.reason else f"sudo: {failed}")
        program.end(1)
    try:
        if options.shown is not None:
            code = program.show(options.shown)
        elif options.check:
            program.Conversation(options).checked()
            code = program.show(printable(" ".join(options.argv)) + "\n")
        else:
            code = program.run(options)
    except Failed as failed:
        if not (options.check and failed.reason):
            _say(options.said(failed))
        code = 1
    program.end(code)


def _say(text: str) -> None:
    lines = [printable(line) for line in text.split("\n")]
    try:
        os.write(2, "\n".join((*lines, "")).encode("utf-8", "backslashreplace"))
    except OSError:
        pass
