"""Report the daemon's state to root and to the group that `status_group` names.

Promises: no word of a command, no variable, nothing of a client but its uid.
"""

import os
import time
from datetime import UTC, datetime
from typing import Final

from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.filters.finding import Severity

#: Commands that are listed, the oldest first; the rest is in `running`. It bounds the answer to some 100 KiB.
MAX_LISTED: Final = 500


def report(instance: Instance) -> dict[str, object]:
    """The status, of values that JSON has. Times are UTC in ISO 8601."""
    now, policy, last = time.monotonic(), instance.policy, instance.reload
    commands = instance.registry.snapshot()
    uptime = now - instance.started
    errors = sum(one.severity is Severity.ERROR for one in policy.findings)
    return {
        "version": instance.version,
        "pid": os.getpid(),
        "started": _stamp(time.time() - uptime),
        "uptime_seconds": round(uptime, 1),
        "stopping": instance.stopping,
        "policy": {
            "generation": policy.generation,
            "loaded": _stamp(policy.loaded),
            "filters": len(policy.filters),
            "findings_skipped": errors,
            "warnings": len(policy.findings) - errors,
        },
        "last_reload": None
        if last is None
        else {"time": _stamp(last.time), "ok": last.finding is None, "finding": last.finding},
        "connections": {"now": instance.connections.used, "most": policy.settings.max_connections},
        "running": {"now": len(commands), "most": policy.settings.max_commands},
        "cgroups": {
            "used": instance.registry.groups is not None,
            "why_not": instance.registry.why_no_groups or None,
            "limits": sorted(groups.limits) if (groups := instance.registry.groups) else [],
        },
        "commands": [
            {
                "filter": one.filter,
                "uid": one.uid,
                "pid": one.pid or None,
                "age_seconds": round(now - one.since, 1),
                "on_stop": "leave" if one.leave else "end",
            }
            for one in commands[:MAX_LISTED]
        ],
        "counters": instance.audit.counters.snapshot(),
    }


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
