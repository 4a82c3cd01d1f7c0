"""Write log lines to where the configuration asks, in a thread of their own.

Promises: no thread that logs waits for whoever reads the log; lines that find no room are counted, and the
count is said. On the journal's stream each line begins with its priority (sd-daemon(3)).
"""

import copy
import logging
import os
import queue
import select
import socket
import sys
import syslog
import threading
from logging import handlers
from types import TracebackType
from typing import Final

from rootwrap_daemon.daemon.handover import Line, LogSettings
from rootwrap_daemon.daemon.record import journal
from rootwrap_daemon.errors import ConfigurationError

LOG = logging.getLogger(__name__)

#: Lines that may wait for their reader: what a reload of a large policy says at once.
_MOST: Final = 2000
#: Seconds that the end of the daemon waits for them.
_PATIENCE: Final = 0.5
#: What formats of oslo.log may name beside what a record has; empty here, where there is no context.
_NO_CONTEXT: Final = tuple(
    "color global_request_id instance project_name request_id resource user_identity user_name".split()
)
_NAME: Final = "rootwrap-daemon"


def priority(level: int) -> int:
    """The priority of syslog(3) for a level of `logging`."""
    known = (
        (logging.CRITICAL, syslog.LOG_CRIT),
        (logging.ERROR, syslog.LOG_ERR),
        (logging.WARNING, syslog.LOG_WARNING),
        (logging.INFO, syslog.LOG_INFO),
    )
    return next((number for least, number in known if level >= least), syslog.LOG_DEBUG)


def prefixed(text: str, level: int) -> str:
    """`text` with its priority at the beginning of each line: sd-daemon(3)."""
    mark = f"<{priority(level)}>"
    return "\n".join(mark + line for line in text.split("\n"))


class Formatter(logging.Formatter):
    """Formats as oslo.log does, by its options."""

    def __init__(self, settings: LogSettings) -> None:
        """Raises ConfigurationError that names the option at fault."""
        nothing = dict.fromkeys(_NO_CONTEXT, "")
        styles = {}
        for name, text in (
            ("logging_default_format_string", settings.format),
            ("logging_debug_format_suffix", f"{settings.format} {settings.debug_suffix}"),
            ("logging_exception_prefix", settings.exception_prefix),
        ):
            styles[name] = logging.PercentStyle(text, defaults=nothing)
            try:
                styles[name].format(_sample())
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigurationError(f"{name}: {error!r}: write a format of Python's logging") from error
        super().__init__(settings.format, settings.date_format, validate=False, defaults=nothing)
        self._plain, self._debug, self._exception = styles.values()
        self._has_suffix = bool(settings.debug_suffix)

    def format(self, record: logging.LogRecord) -> str:
        """Return the text, without a newline at its end."""
        # A copy: each place has a formatter of its own, and the journal takes the fields as they are.
        record = copy.copy(record)
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        with_suffix = record.levelno <= logging.DEBUG and self._has_suffix
        text: str = (self._debug if with_suffix else self._plain).format(record)
        if record.exc_text:
            prefix = self._exception.format(record)
            text += "".join(f"\n{prefix}{line}" for line in record.exc_text.split("\n"))
        return text


def _sample() -> logging.LogRecord:
    record = logging.LogRecord("", logging.DEBUG, "", 1, "", (), None)
    record.message = record.asctime = ""
    return record


class _StandardError(logging.Handler):
    """Descriptor 2, whatever it is; only the log's own thread waits for it."""

    def __init__(self, *, with_priority: bool) -> None:
        super().__init__()
        self._with_priority = with_priority

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        write(prefixed(text, record.levelno) if self._with_priority else text)


def write(text: str) -> None:
    """Write a line to standard error, however long that takes; where it cannot be written it is lost."""
    rest = memoryview(f"{text}\n".encode("utf-8", "backslashreplace"))
    try:
        while rest:
            try:
                rest = rest[os.write(2, rest) :]
            except BlockingIOError:
                # Somebody who shares it made it so.
                poll = select.poll()
                poll.register(2, select.POLLOUT)
                poll.poll()
    except OSError:
        pass


class _Syslog(logging.Handler):
    """syslog(3)."""

    def __init__(self, facility: str) -> None:
        """Raises ConfigurationError."""
        super().__init__()
        name = facility.upper()
        number = getattr(syslog, name if name.startswith("LOG_") else f"LOG_{name}", None)
        # A priority has such a name, too; LOG_KERN is 0.
        if not isinstance(number, int) or number & 7 or name.endswith("EMERG"):
            raise ConfigurationError(f"syslog_log_facility: there is no {facility!r}: write e.g. LOG_DAEMON")
        syslog.openlog(_NAME, 0, number)

    def emit(self, record: logging.LogRecord) -> None:
        syslog.syslog(priority(record.levelno), self.format(record).replace("\0", "\\0"))


class _Journal(logging.Handler):
    """The systemd journal in its native protocol."""

    def __init__(self) -> None:
        """Raises ConfigurationError if there is no journal."""
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(journal.SOCKET)
        except OSError as error:
            self._socket.close()
            raise ConfigurationError(f"use_journal: {journal.SOCKET}: {error}: take it out") from error

    def emit(self, record: logging.LogRecord) -> None:
        fields = {
            "MESSAGE": record.getMessage(),
            "PRIORITY": str(priority(record.levelno)),
            "SYSLOG_IDENTIFIER": _NAME,
            "LOGGER_NAME": record.name,
            "THREAD_NAME": str(record.threadName),
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName,
            "EXCEPTION_INFO": record.exc_text or "",
        }
        data = b"".join(journal.field(name.encode(), text) for name, text in fields.items() if text)
        try:
            self._socket.send(data, socket.MSG_NOSIGNAL)
        except OSError:
            # Its socket was made anew, or it is gone: what cannot be logged is lost.
            try:
                self._socket.connect(journal.SOCKET)
                self._socket.send(data, socket.MSG_NOSIGNAL)
            except OSError:
                pass


class _Queue(handlers.QueueHandler):
    """Puts lines into a queue; one that finds no room is dropped and counted."""

    def __init__(self, waiting: "queue.Queue[logging.LogRecord | None]") -> None:
        super().__init__(waiting)
        self._waiting = waiting
        self._lost = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Make the message now: what its arguments are may be different later."""
        record = copy.copy(record)
        record.msg, record.args = record.getMessage(), None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        # `logging` calls this under the handler's lock.
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._lost += 1

    def take_lost(self) -> int:
        """Return the number of lines dropped since the last call."""
        self.acquire()
        try:
            lost, self._lost = self._lost, 0
        finally:
            self.release()
        return lost


class Log:
    """The log of this process, from here to `close`."""

    def __init__(self, settings: LogSettings) -> None:
        """Raises ConfigurationError."""
        self._handlers = handlers_of(settings)
        formatter = Formatter(settings)
        for handler in self._handlers:
            handler.setFormatter(formatter)
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(_MOST)
        self._queue = _Queue(self._waiting)
        root = logging.getLogger()
        root.handlers[:] = [self._queue]
        root.setLevel(settings.level)
        for name, level in settings.levels:
            logging.getLogger(name).setLevel(level)
        # Whatever else would write to standard error, and wait there.
        logging.captureWarnings(True)
        logging.raiseExceptions = False
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_a_thread
        sys.unraisablehook = _unraisable
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def write(self, lines: tuple[Line, ...]) -> None:
        """Log lines of the program before."""
        for line in lines:
            log = logging.getLogger(line.logger)
            if log.isEnabledFor(line.level):
                record = log.makeRecord(line.logger, line.level, "", 0, line.message, (), None)
                record.created, record.msecs = line.created, line.created % 1 * 1000
                log.handle(record)

    def close(self, patience: float | None = _PATIENCE) -> None:
        """Write what waits, for `patience` seconds at most (None: however long); nothing is logged after."""
        logging.getLogger().handlers.clear()
        try:
            self._waiting.put(None, timeout=patience)
        except queue.Full:
            return
        self._thread.join(patience)

    def _work(self) -> None:
        while (record := self._waiting.get()) is not None:
            lost = self._queue.take_lost()
            if lost:
                self._put(LOG.makeRecord(LOG.name, logging.WARNING, "", 0, _LOST, (lost,), None))
            self._put(record)

    def _put(self, record: logging.LogRecord) -> None:
        # Not `handle`: it waits with the handler's lock, which the end of the interpreter wants, too.
        for handler in self._handlers:
            handler.emit(record)


_LOST: Final = "%d log lines were lost before this one: their reader did not keep up"


def handlers_of(settings: LogSettings) -> list[logging.Handler]:
    """Return a handler for each place that the settings name. Raises ConfigurationError."""
    made: list[logging.Handler] = []
    if settings.file:
        try:
            # For whoever renames it, as logrotate(8).
            made.append(
                handlers.WatchedFileHandler(settings.file, encoding="utf-8", errors="backslashreplace")
            )
        except OSError as error:
            raise ConfigurationError(f"log_file: {settings.file}: {error.strerror}: name another") from error
    if settings.syslog:
        made.append(_Syslog(settings.syslog))
    if settings.journal:
        made.append(_Journal())
    if settings.stderr:
        made.append(_StandardError(with_priority=settings.prefixed))
    return made


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    LOG.critical("uncaught, the daemon ends", exc_info=(kind, error, trace))


def _uncaught_in_a_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is not None:
        LOG.error("uncaught in a thread", exc_info=found.exc_value)


def _unraisable(found: "sys.UnraisableHookArgs") -> None:
    LOG.error("uncaught in %r", found.object, exc_info=found.exc_value)
