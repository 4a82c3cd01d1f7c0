"""How often each thing happened since the start: by event, and by the code of its outcome.

Promises: adding never waits for another thread. Imports the standard library alone.
"""

import itertools


class Counters:
    """Counts by event and code; a thing without a code counts under its event's name."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], itertools.count[int]] = {}

    def add(self, event: str, code: object = None) -> None:
        """Once more. Each step here is one of the interpreter's own, so no two threads count as one."""
        key = (event, code if isinstance(code, str) else event)
        next(self._counts.setdefault(key, itertools.count()))

    def snapshot(self) -> dict[str, dict[str, int]]:
        """{event: {code: times}}."""
        found: dict[str, dict[str, int]] = {}
        for (event, code), count in sorted(self._counts.copy().items()):
            # `count(7)`: the one way to look at it that does not move it.
            found.setdefault(event, {})[code] = int(repr(count)[len("count(") : -1])
        return found
