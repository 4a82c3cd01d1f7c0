"""Plays one scenario over one front end: `python -m tests.conformance.play FRONT SCENARIO SOCKET [UID]`."""

import os
import sys

from tests.conformance.fronts import FRONTS, PATIENT


def main() -> None:
    """Raises what the scenario does."""
    name, scenario, path, *uid = sys.argv[1:]
    # First: it may have to patch what all the others import.
    front = FRONTS[name]()
    from rootwrap_daemon.client import calls
    from tests.conformance.scenarios import KEPT, SCENARIOS, Scene

    for number in map(int, uid):
        os.setgroups([])
        os.setresgid(number, number, number)
        os.setresuid(number, number, number)
    # A short `timeout` of a call would be one of its hello, too.
    vars(calls)["_CONNECT_LEAST"] = PATIENT["connect_timeout"]
    scene = Scene(front, path)
    KEPT.append(scene)

    async def play() -> None:
        await SCENARIOS[scenario].play(scene)

    front.play(play())
    print("end", flush=True)


if __name__ == "__main__":
    main()
