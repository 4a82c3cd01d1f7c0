"""Take the place of `oslo_rootwrap.client.Client`.

Promises: its interface without its lock, its restart and its second run of a command.
"""

from collections.abc import Sequence

from rootwrap_daemon.errors import Denied, ExecutableNotFound
from rootwrap_daemon.openstack import hub, socket_path


class Client:
    """Runs commands through the daemon at `socket`, several at once; right for threads and greenthreads.

    `rootwrap_daemon_cmd` is accepted and not run: the daemon is there already.
    """

    def __init__(self, rootwrap_daemon_cmd: Sequence[str] = (), *, socket: str | None = None) -> None:
        self._clients = hub.Clients(socket or socket_path())

    def execute(self, cmd: list[str], stdin: str | bytes | None = None) -> tuple[int, str, str]:
        """Return code, output and error output (UTF-8, surrogateescape).

        99 and 96 with no output are a command that no filter allows, or whose program is not there. Raises
        another Error of `rootwrap_daemon.errors`; after OutcomeUnknown the command may have run, once.
        """
        try:
            done = self._clients.get().run(cmd, input=stdin, text=True)
        except (Denied, ExecutableNotFound) as error:
            return error.exit_code, "", ""
        return done.returncode, done.stdout, done.stderr
