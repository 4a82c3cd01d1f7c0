"""One request to run a command, from judgement to answer: judge -> record -> run -> record.

Promises: nothing runs that was not judged by one policy and written to the audit log first; whatever happens
then is in a second record under the same request id.
"""

import logging
import os
import traceback
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from rootwrap_daemon.daemon.record import secrets
from rootwrap_daemon.daemon.record.records import Records, new_request_id
from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.daemon.run import process, spawn
from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.daemon.run.process import Bounds, Client, Ended, Finished
from rootwrap_daemon.daemon.run.registry import Ticket
from rootwrap_daemon.daemon.run.stdio import Stdio
from rootwrap_daemon.errors import Busy, Denied, Error, InternalError, Stopping
from rootwrap_daemon.filters import values
from rootwrap_daemon.policy.bound import Bound, BoundExec, BoundRead
from rootwrap_daemon.policy.policy import Allowed, Policy, Refused, judge
from rootwrap_daemon.protocol.messages import (
    STDERR,
    STDIN,
    STDOUT,
    Answer,
    Check,
    Failure,
    Result,
    Run,
    Start,
    Started,
)

LOG = logging.getLogger(__name__)

_FAILED: Final = "the daemon failed at this command"


def no_memory() -> InternalError:
    """Return the error for a request that the system gives no memory for.

    Without its cause, whose traceback would hold what there was no memory for.
    """
    return InternalError("the daemon has no memory for this")


def canonical(message: Run | Start | Check, asker: frozenset[str], *, stdin: bool) -> values.Request:
    """Bytes to the one canonical text that filters judge; spawn turns it back, byte for byte.

    `asker`: as `Policy.names_of` has it.
    """
    return values.Request(
        tuple(word.decode("utf-8", "surrogateescape") for word in message.argv),
        tuple(
            (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in message.env
        ),
        stdin,
        message.user,
        asker,
    )


def verdict(policy: Policy, request: values.Request) -> Allowed | Refused:
    """Judge; an exception in there is a refusal like any other, with a record, and no word of the request."""
    try:
        return judge(policy, request)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a verdict all the same
        where = place(error)
        LOG.error("judging a request failed: %s", where)
        alone = values.Shown(argv=False)
        return Refused(InternalError, "the daemon failed at this request", where, shown=alone)


def place(error: BaseException) -> str:
    """Return what an exception is and where it came from, without its text, which may have words in it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{os.path.basename(one.filename)}:{one.lineno}" for one in reversed(frames))
    return f"{type(error).__name__} at {where}"


class Caller(NamedTuple):
    """The client of a request, as far as running its command needs one.

    `room`: bytes that it can take in one answer. `reserve` takes bytes of output out of what the daemon may
    buffer. `say` has a message sent by `client.flush`.
    """

    peer: Peer
    room: int
    client: Client
    reserve: Callable[[int], bool]
    say: Callable[[Answer], None]


class Command:
    """A Run, or a Start with the descriptors that came with it, on its way through the daemon."""

    def __init__(self, instance: Instance, caller: Caller, message: Run | Start, stdio: Stdio | None) -> None:
        self._instance = instance
        self._caller = caller
        self._peer = caller.peer
        self._message = message
        self._stdio = stdio
        self._ticket: Ticket | None = None
        #: What is to be closed here.
        self._bound: Bound | None = None

    @property
    def _has_input(self) -> bool:
        message = self._message
        return message.stdin is not None if isinstance(message, Run) else bool(message.slots & STDIN)

    def answer(self, policy: Policy) -> Answer | None:
        """Judge and run it; what is to be said at its end, None if there is nobody to hear it."""
        if self._instance.drained:
            return Failure(new_request_id(), Stopping.code, "the daemon is stopping")
        request = canonical(self._message, policy.names_of(self._peer), stdin=self._has_input)
        self._records = Records(self._instance.audit, self._peer, request, policy.generation)
        judged = verdict(policy, request)
        if isinstance(judged, Refused):
            return self._refused(judged)
        settings, uid, commands = policy.settings, self._peer.uid, self._instance.commands
        self._bound = judged.bound
        taken = False
        try:
            taken = commands.take(uid, 1, settings.max_commands, settings.max_commands_per_user)
            if not taken:
                self._records.busy()
                return self._failed(Busy("too many commands at once"))
            return self._run(judged, policy)
        finally:
            if taken:
                # What SIGKILL did not end counts until it is gone: its user could have any number of such.
                pid = 0 if self._ticket is None else self._ticket.pid
                spawn.when_gone(pid, partial(commands.give, uid, 1))
            if self._bound is not None:
                self._bound.close()

    def _refused(self, refused: Refused) -> Failure:
        self._records.refuse("denied", refused)
        return Failure(self._records.id, refused.error.code, refused.message)

    def _failed(self, error: Error) -> Failure:
        return Failure(self._records.id, error.code, error.message)

    def _run(self, allowed: Allowed, policy: Policy) -> Answer | None:
        options, bound = allowed.options, allowed.bound
        if options.sanitize and isinstance(self._message, Start) and self._message.slots & (STDOUT | STDERR):
            why = "the output of this command is to be captured, and sanitized"
            return self._refused(Refused(Denied, why, why, allowed.filter, allowed.shown))
        outcome: Finished | Ended | None = None
        begun = True
        try:
            try:
                self._records.begin(allowed, bound.identity.name if isinstance(bound, BoundExec) else "root")
            except InternalError as error:
                begun = False
                return self._failed(error)
            outcome = self._perform(allowed, policy)
        except Error as error:
            outcome = Ended(error)
        except MemoryError:
            outcome = Ended(no_memory())
        except Exception as error:  # noqa: BLE001 - its client alone is to suffer
            LOG.error("a command failed: %s", place(error))
            outcome = Ended(InternalError(_FAILED))
        finally:
            # Whatever happens: who was said to run is said to have ended.
            self._caller.client.turn.take()
            if begun:
                self._record_end(outcome or Ended(InternalError(_FAILED)))
        try:
            if isinstance(outcome, Finished):
                return Result(self._records.id, *outcome)
            return None if outcome.error is None else self._failed(outcome.error)
        finally:
            # The traceback of an error has this frame, and the two would wait for the collector.
            del outcome

    def _record_end(self, outcome: Finished | Ended) -> None:
        used = (self._ticket and self._ticket.used) or {}
        if isinstance(outcome, Finished):
            sizes = len(outcome.stdout), len(outcome.stderr)
            self._records.end(outcome.cause or "ok", outcome.returncode, sizes, used=used)
            return
        cause = outcome.error.__cause__ if outcome.error else None
        code = outcome.error.code if outcome.error else "client_gone"
        self._records.end(code, outcome.returncode, None, str(cause) if cause else "", used)

    def _perform(self, allowed: Allowed, policy: Policy) -> Finished | Ended:
        bound, options, bounds = allowed.bound, allowed.options, self._bounds(allowed.options, policy)
        registry, client, message = self._instance.registry, self._caller.client, self._message
        if not isinstance(bound, BoundExec):
            self._bound = None
            return process.read(bound, bounds) if isinstance(bound, BoundRead) else process.send_signal(bound)
        leave, limits = options.on_stop_leave, options.group_limits
        ticket = registry.begin(allowed.filter, self._peer.uid, leave=leave, limits=limits)
        # From here on what was bound is the executor's, which lets go of it as soon as the command has it.
        self._ticket, self._bound = ticket, None
        try:
            if self._stdio is not None:
                signals = bounds.signals
                outcome = process.run_on(
                    self._stdio, bound, bounds, client, ticket, lambda pid: self._say_started(pid, signals)
                )
            else:
                stdin = message.stdin if isinstance(message, Run) else None
                outcome = process.run(bound, stdin, bounds, client, ticket)
        finally:
            registry.end(ticket)
        if not isinstance(outcome, Finished):
            return outcome
        if ticket.exhausted and outcome.returncode < 0 and not outcome.cause:
            outcome = outcome._replace(cause="out_of_memory")
        if options.sanitize:
            return outcome._replace(
                stdout=secrets.without_secrets(outcome.stdout), stderr=secrets.without_secrets(outcome.stderr)
            )
        return outcome

    def _bounds(self, options: values.Options, policy: Policy) -> Bounds:
        settings = policy.settings
        timeout = settings.command_timeout if options.timeout is None else options.timeout
        if self._message.timeout_ms is not None:
            timeout = min(timeout, self._message.timeout_ms / 1000)
        output = options.max_output or settings.max_output
        if options.sanitize:
            output = min(output, secrets.MAX_OUTPUT)
        return Bounds(
            timeout=timeout,
            grace=settings.kill_grace,
            # What the client could not take would be lost: it is refused like what we would not hold.
            output=max(0, min(output, self._caller.room)),
            reserve=self._caller.reserve,
            stop=self._instance.stop_reader,
            signals=settings.signals if options.signals is None else options.signals,
        )

    def _say_started(self, pid: int, signals: frozenset[int]) -> None:
        allowed = sum(1 << number - 1 for number in signals)
        self._caller.say(Started(self._records.id, pid, allowed))
