"""Collect the log lines of a program that starts the serving one, which writes them."""

import logging
from typing import Self

from rootwrap_daemon.daemon.handover import Line


class Collected(logging.Handler):
    """A context in which log lines are collected, for another program to write."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    def __enter__(self) -> Self:
        root = logging.getLogger()
        root.handlers[:] = [self]
        root.setLevel(logging.INFO)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        self.lines.append(Line(record.name, record.levelno, record.created, message))
