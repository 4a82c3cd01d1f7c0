"""Read a daemon's configuration, FILE and then FILE.d/*.conf in the order of their names -> Settings.

Promises: the daemon and every tool read it here, and nothing but these files is read (no environment, no home
directory). What is not known in them is an error. A file that others than trusted owners can change, and one
that names code to call, is refused.
"""

import difflib
import logging
import math
import os
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final

from oslo_config import cfg, iniparser
from oslo_log import _options as log_options

from rootwrap_daemon.config_options import LOG_OPTS, OPTS
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.filters.finding import Finding, Location, Severity
from rootwrap_daemon.filters.read.fault import Code, Fault
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import owned
from rootwrap_daemon.settings import DEFAULT_NOFILE, MAX_FILE, Settings

LOG = logging.getLogger(__name__)

#: oslo.rootwrap's sections and options that no file of its users must lose; this daemon has no use for them.
_ROOTWRAP: Final = {
    "xenapi": frozenset(("xenapi_connection_url", "xenapi_connection_username", "xenapi_connection_password"))
}
#: oslo.log had them once, under [DEFAULT], and old files still do.
_RETIRED: Final = frozenset(("use_syslog_rfc_format", "verbose"))
#: What may be empty: it has a meaning of its own then.
_OPTIONAL: Final = frozenset(("socket_group", "status_group", "capabilities"))


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options by group, for oslo-config-generator."""
    return [("DEFAULT", [*OPTS, *LOG_OPTS])]


@dataclass(frozen=True, slots=True)
class Configuration:
    """The contents of the files of a configuration.

    `files`: those that were read, in order. `findings`: what is wrong, each with its place. `settings`: None
    where the text of a file cannot be used. `conf`: oslo.log's options.
    """

    files: tuple[str, ...]
    findings: tuple[Finding, ...]
    settings: Settings | None
    conf: cfg.ConfigOpts

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those findings with which the daemon does not start."""
        return tuple(one for one in self.findings if one.severity is Severity.ERROR)

    def required(self) -> Settings:
        """The settings. Raises ConfigurationError where there are none."""
        if self.settings is None:
            raise ConfigurationError("\n".join(map(str, self.errors)))
        return self.settings


def load(
    config_file: str,
    owners: frozenset[int] | None = None,
    *,
    socket_path: str | None = None,
    terse: bool = False,
) -> tuple[Settings, cfg.ConfigOpts]:
    """The settings of `config_file`, an absolute path, and its drop-ins; the last that sets an option counts.

    `socket_path` takes the place of the option. `terse`: errors name places alone, no word of a file: for a
    reader who may not be allowed to read it. `owners`: who may own the files, by default root and this user.
    Raises ConfigurationError with all that is wrong.
    """
    owners = host.base_owners() if owners is None else owners
    try:
        found = look(config_file, owners, socket_path=socket_path)
    except OSError as error:
        raise ConfigurationError(f"{error.filename or config_file}: {error.strerror}") from error
    if found.errors or found.settings is None:
        raise ConfigurationError("\n".join(_said(one, terse=terse) for one in found.errors))
    for finding in found.findings:
        LOG.warning("%s", finding)
    return found.settings, found.conf


def look(config_file: str, owners: frozenset[int], *, socket_path: str | None = None) -> Configuration:
    """As `load`, and whatever is wrong in the files, or with who can change them, is a finding.

    Raises OSError for a file that is not there or may not be read.
    """
    reader = _Reader(owners)
    # First: what is wrong with its directory is wrong with that of the drop-ins, which need not be there.
    reader.read(config_file)
    for path in reader.drop_ins(f"{config_file}.d"):
        try:
            reader.read(path)
        except FileNotFoundError:
            reader.unusable(Location(path, 1, 1), "a link that leads nowhere", "take it out")
    settings = None
    if reader.usable:
        if socket_path is not None:
            reader.conf.set_override("socket_path", socket_path)
        settings = _settings(reader)
    return Configuration(tuple(reader.files), tuple(reader.findings), settings, reader.conf)


def look_at(text: str, file: str) -> Configuration:
    """The text of a configuration file, whoever owns it and without drop-ins. `file`: for the locations."""
    reader = _Reader(frozenset())
    reader.files.append(file)
    reader.parse(text, file)
    settings = _settings(reader) if reader.usable else None
    return Configuration((file,), tuple(reader.findings), settings, reader.conf)


def default_settings() -> Settings:
    """The settings of an empty configuration."""
    return look_at("", "").required()


def _said(finding: Finding, *, terse: bool) -> str:
    if terse:
        return f"{finding.location}: the daemon cannot use this; as root, --check says why"
    return str(finding)


class _Reader:
    """Reads files one after the other into one ConfigOpts."""

    def __init__(self, owners: frozenset[int]) -> None:
        self.files: list[str] = []
        self.findings: list[Finding] = []
        #: Where an option was given last.
        self.places: dict[str, Location] = {}
        self.usable = True
        self.conf = cfg.ConfigOpts()
        self._owners = owners
        handlers = logging.root.handlers[:]
        # It is what the entry point oslo.config.opts names, and loads a third of what oslo_log.log does.
        for _, options in log_options.list_opts():
            self.conf.register_opts(options)
        # It makes a handler for early lines, which would write what a tool has as findings to stderr.
        logging.root.handlers[:] = handlers
        built_in = {"config_file", "config_dir", "config_source", "shell_completion"}
        self.conf.register_opts(OPTS)
        self.conf.register_opts(LOG_OPTS)
        # Each argument closes a way in: $HOME/.rootwrap-daemon/, /etc/..., OS_DEFAULT__* variables.
        self.conf(
            args=[],
            project="rootwrap-daemon",
            default_config_files=[],
            default_config_dirs=[],
            use_env=False,
        )
        self._sections = {"DEFAULT": frozenset(self.conf) - built_in, **_ROOTWRAP}

    def read(self, path: str) -> None:
        """Read one file. Raises OSError if it cannot be opened."""
        self.files.append(path)
        try:
            descriptor = owned.open_owned(path, self._owners)
        except host.UntrustedPath as error:
            remedy = "it and all directories above must be such that only root can write them"
            self.error(Location(path, 1, 1), str(error), remedy, "file")
            # A tool goes on to what is in it; the daemon does not get that far.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            self.unusable(Location(path, 1, 1), "not a regular file", "make it one, or take it out")
            return
        with open(descriptor, "rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            self.unusable(Location(path, 1, 1), f"longer than {MAX_FILE} bytes", "name a configuration")
            return
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            before = data[: error.start]
            place = Location(path, before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
            self.unusable(place, "not UTF-8", "save the file as UTF-8")
            return
        self.parse(text, path)

    def drop_ins(self, directory: str) -> Iterator[str]:
        """The files of a directory that are to be read, in order. Raises OSError."""
        try:
            found = host.resolve_owned(directory, self._owners).path
        except FileNotFoundError:
            return
        except host.UntrustedPath as error:
            if not os.path.exists(directory):
                return
            found = directory
            remedy = "it must be a directory that only root can write"
            self.error(Location(directory, 1, 1), str(error), remedy, "file")
        for name in sorted(os.listdir(found)):
            if name.endswith(".conf") and not name.startswith("."):
                yield f"{found}/{name}"
            else:
                # Editors and packagers leave such: x~, x.conf.rpmsave, .x.swp.
                place = Location(f"{found}/{name}", 1, 1)
                what, remedy = "not read, by its name", "end it in .conf, or move it away"
                self.findings.append(Finding(place, Severity.WARNING, "misnamed", what, remedy))

    def parse(self, text: str, file: str) -> None:
        """Take over the options of one file."""
        parser = _Parser()
        # The last assignment ends with the line behind it.
        lines = [*text.split("\n"), ""]
        problem: iniparser.ParseError | None = None
        try:
            parser.parse(lines)
        except iniparser.ParseError as error:
            problem = error
        headers = {line.strip() for line in lines}
        is_one = text == "" or any(f"[{section}]" in headers for section in self._sections)
        if not is_one and _is_private(file):
            # Who starts the daemon through sudo(8) may name any file: where its lines end is not told.
            what = "this is no configuration: no option of it is known"
            self.unusable(Location(file, 1, 1), what, "name the configuration of the daemon")
            return
        if problem is not None:
            what = problem.msg[:1].lower() + problem.msg[1:]
            self.unusable(Location(file, problem.lineno, 1), what, "write [SECTION] or `option = value`")
        seen: dict[tuple[str, str], int] = {}
        for given in parser.given:
            place = Location(file, given.line, 1)
            if self._is_known(given, place):
                self._indented(given, file)
                first = seen.setdefault((given.section, given.name), given.line)
                if first != given.line:
                    self.unusable(place, f"{given.name} a second time, after line {first}", "take one out")
                elif given.section == "DEFAULT":
                    self._set(given, place)

    def _is_known(self, given: "_Given", place: Location) -> bool:
        known = self._sections.get(given.section)
        if known is None:
            remedy = _did_you_mean(given.section, self._sections) or "put it in [DEFAULT]"
            what = f"there is no section [{given.section}]"
            self.unusable(place, what if given.section else "an option before any section", remedy)
            return False
        if given.section == "DEFAULT" and given.name in _RETIRED:
            what = f"{given.name} does nothing any more"
            self.findings.append(Finding(place, Severity.WARNING, "configuration", what, "take it out"))
            return False
        if given.name not in known:
            elsewhere = "move it to [DEFAULT]" if given.name in self._sections["DEFAULT"] else "take it out"
            remedy = _did_you_mean(given.name, known) or elsewhere
            self.unusable(place, f"there is no option {given.name} in [{given.section}]", remedy)
            return False
        return True

    def _indented(self, given: "_Given", file: str) -> None:
        """Find an option that a blank in front of it made a part of the value above."""
        for number, text in enumerate(given.value.split("\n")[1:], given.line + 1):
            name = text.partition("=")[0].partition(":")[0].strip()
            if name in self._sections[given.section]:
                what = f"{name} goes on with the value of {given.name} above, for it is indented"
                self.unusable(Location(file, number, 1), what, "take out the blanks in front of it")

    def _set(self, given: "_Given", place: Location) -> None:
        if given.name == "log_config_append":
            # Such a file names classes and arguments to call: it is code.
            self.unusable(place, "log_config_append names code, and is not read", "take it out")
            return
        self.places[given.name] = place
        try:
            self.conf.set_override(given.name, given.value)
            # A `$name` in it is looked up only now.
            str(self.conf[given.name])
        except (cfg.Error, ValueError) as error:
            self.conf.clear_override(given.name)
            self.unusable(place, f"{given.name}: {error}", "write another value, or take it out")

    def error(self, place: Location, what: str, remedy: str, code: Code) -> None:
        self.findings.append(Finding(place, Severity.ERROR, code, what, remedy))

    def unusable(self, place: Location, what: str, remedy: str) -> None:
        """An error with which there are no settings."""
        self.usable = False
        self.error(place, what, remedy, "configuration")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    folded = [one for one in known if one.lower() == name.lower().replace("-", "_")]
    # `timeout` of a command_timeout, before names that only look like it.
    ends = [one for one in sorted(known) if one.endswith(f"_{name}")]
    found = folded or ends or close
    return f"did you mean {found[0]}?" if found else ""


def _is_private(path: str) -> bool:
    """True for a file that not everybody may read."""
    try:
        return not os.stat(path).st_mode & 0o004
    except OSError:
        return True


@dataclass(frozen=True, slots=True)
class _Given:
    """One assignment in a file, and the line on which it begins."""

    section: str
    name: str
    value: str
    line: int


@dataclass
class _Parser(iniparser.BaseParser):
    """The assignments of a file by oslo.config's own grammar."""

    given: list[_Given] = field(default_factory=list)
    section: str = ""

    def new_section(self, section: str) -> None:
        self.section = section

    def assignment(self, key: str, value: list[str]) -> None:
        # It is called at the line behind.
        self.given.append(_Given(self.section, key, "\n".join(value), self.lineno - len(value)))


def _settings(reader: _Reader) -> Settings | None:
    """The options as Settings; None, and findings, if one cannot be used."""
    values: dict[str, Any] = {}
    nowhere = Location(reader.files[0], 1, 1)
    for name in (one.name for one in fields(Settings)):
        value = reader.conf[name]
        try:
            if value is None and name not in _OPTIONAL:
                raise Fault("configuration", "is empty", "write a value, or take it out")
            if isinstance(value, float) and not math.isfinite(value):
                raise Fault("configuration", f"{value} is no number of seconds", "write one")
            plain = tuple(value) if isinstance(value, list) else value
            values[name] = _CONVERT[name](plain) if name in _CONVERT else plain
        except Fault as fault:
            reader.unusable(reader.places.get(name, nowhere), f"{name}: {fault.what}", fault.remedy)
    if values.get("audit_file") == "journal" and values.get("audit") == "required":
        what = "audit_file: the journal drops records beyond its rate limit, and says that it took them"
        remedy = "name a file, or write `audit = best_effort`"
        reader.unusable(reader.places.get("audit_file", nowhere), what, remedy)
    return Settings(**values) if reader.usable else None


def _directories(paths: tuple[str, ...]) -> tuple[str, ...]:
    if not paths:
        raise Fault("configuration", "is empty", "name at least one directory")
    return tuple(map(_path, paths))


def _path(path: str) -> str:
    # A colon would split PATH; nothing that a service uses has one in its path.
    plain = os.path.isabs(path) and ".." not in path.split("/") and path.isprintable() and ":" not in path
    if not plain:
        raise Fault("configuration", f"{path!r} is not an absolute path without `..`", "write one")
    return path


def _mode(text: str) -> int:
    if not text.isascii() or not text.isdigit() or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise Fault("configuration", f"{text!r} is not an octal mode", "write e.g. 0660")
    return int(text, 8)


def _signals(names: tuple[str, ...]) -> frozenset[int]:
    known = {one.name.removeprefix("SIG"): one.value for one in signal.Signals}
    for name in names:
        if name.removeprefix("SIG") not in known:
            raise Fault("configuration", f"there is no {name!r}", "write e.g. HUP, TERM")
    return frozenset(known[name.removeprefix("SIG")] for name in names)


#: Conversions beyond oslo.config's own types. Each raises Fault.
_CONVERT: Final[dict[str, Callable[[Any], Any]]] = {
    "filters_path": _directories,
    "exec_dirs": _directories,
    "socket_path": _path,
    "socket_mode": _mode,
    "audit_file": lambda text: text if text in ("", "journal") else _path(text),
    "state_dir": lambda text: text and _path(text),
    "signals": _signals,
    # oslo.rootwrap lowers its own limit, for a reason that is gone.
    "rlimit_nofile": lambda number: max(number, DEFAULT_NOFILE),
}
