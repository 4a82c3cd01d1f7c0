"""Run commands through the daemon: the package that an agent imports.

    from rootwrap_daemon.client import Client          # native threads, or monkey-patched eventlet
    from rootwrap_daemon.client.green import Client    # eventlet without monkey-patching
    from rootwrap_daemon.client.aio import AsyncClient # asyncio

The three differ in how they wait, and in nothing else: each gives `calls.Calls`, which drives a request, one
function that waits for descriptors and one gate to wait at for a connection (`threads.wait` by poll(2),
`hub.wait` in eventlet's hub, `aio_process.wait` in the loop). `core` turns arguments into requests and
answers into results; `pool` keeps connections; `request` is one request on one of them; `pipes`, `process`
and `aio_process` are commands on pipes; `launch` starts a daemon for its client alone.

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
    ProcessGone,
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
    "ProcessGone",
    "Stopping",
    "TooLarge",
    "Unauthorized",
]
