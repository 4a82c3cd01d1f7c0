"""What an agent imports to run commands through the daemon.

    from rootwrap_daemon.client import Client          # native threads, or monkey-patched eventlet
    from rootwrap_daemon.client.green import Client    # eventlet without monkey-patching
    from rootwrap_daemon.client.aio import AsyncClient # asyncio

Loads no oslo library, eventlet or asyncio.
"""

from rootwrap_daemon.client.core import CompletedCommand, Decision
from rootwrap_daemon.client.pipes import DEVNULL, PIPE, STDOUT
from rootwrap_daemon.client.process import Process
from rootwrap_daemon.client.threads import Client
from rootwrap_daemon.errors import (
    BadRequest,
    Busy,
    CommandFailed,
    CommandTimeout,
    DaemonUnavailable,
    Denied,
    EnvironmentDenied,
    Error,
    ExecutableNotFound,
    InternalError,
    LocalProtocolError,
    OutcomeUnknown,
    OutputLimit,
    Stopping,
    TooLarge,
    Unauthorized,
)

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "BadRequest",
    "Busy",
    "Client",
    "CommandFailed",
    "CommandTimeout",
    "CompletedCommand",
    "DaemonUnavailable",
    "Decision",
    "Denied",
    "EnvironmentDenied",
    "Error",
    "ExecutableNotFound",
    "InternalError",
    "LocalProtocolError",
    "OutcomeUnknown",
    "OutputLimit",
    "Process",
    "Stopping",
    "TooLarge",
    "Unauthorized",
]
