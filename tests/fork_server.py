"""Run a module for each request in a fork of this process: the other side of tests/prepared.py.

`python fork_server.py DESCRIPTOR PREPARATION...`: requests come from a socket; a preparation is a module to
import, or `module:callable` to call. A request is answered with a pidfd, and with the exit code at the end.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import sys

# Bound here: a preparation may replace what their modules have, for whoever imports them later.
from os import fork, pidfd_open, waitpid
from select import select
from socket import recv_fds, send_fds, socket
from typing import Any

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def prepare(name: str) -> None:
    module, _, function = name.partition(":")
    found = importlib.import_module(module)
    if function:
        getattr(found, function)()


def serve(requests: socket) -> dict[str, Any] | None:
    """What a fork is asked for, returned as that fork; None at the end of the requests."""
    running: dict[int, tuple[int, socket]] = {}
    while True:
        for ready in select([requests.fileno(), *running], [], [])[0]:
            if ready in running:
                pid, answer = running.pop(ready)
                code = os.waitstatus_to_exitcode(waitpid(pid, 0)[1])
                os.close(ready)
                # Who asked may have gone.
                with answer, contextlib.suppress(OSError):
                    answer.send(str(code).encode())
                continue
            text, descriptors, _, _ = recv_fds(requests, 1 << 20, 4)
            if not text:
                return None
            to, *standard = descriptors
            pid = fork()
            if pid == 0:
                for number, descriptor in enumerate(standard):
                    os.dup2(descriptor, number)
                for descriptor in (requests.detach(), *running, *descriptors):
                    os.close(descriptor)
                for _, answer in running.values():
                    answer.close()
                request: dict[str, Any] = json.loads(text)
                return request
            pidfd = pidfd_open(pid)
            answer = socket(fileno=to)
            running[pidfd] = (pid, answer)
            send_fds(answer, [b"%d" % pid], [pidfd])
            for descriptor in standard:
                os.close(descriptor)


def main() -> None:
    descriptor, *preparations = sys.argv[1:]
    if not sys.flags.isolated:
        # As `python -m` has it; what it was is the directory of this file.
        sys.path[0] = _ROOT
    for name in preparations:
        prepare(name)
    # A fork that ends looks at no object of these, and copies none for that.
    gc.freeze()
    request = serve(socket(fileno=int(descriptor)))
    if request is None:
        return
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["uid"] is not None:
        os.setgroups([])
        os.setresgid(*[request["uid"]] * 3)
        os.setresuid(*[request["uid"]] * 3)
    module, *sys.argv[1:] = request["argv"]
    # It executes anew; runpy(3) warns of one that is there.
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
