"""Write audit records one by one, as no part of the daemon does: there a request writes its own."""

from rootwrap_daemon.daemon.record.audit import Audit


def write_record(audit: Audit, event: str, hidden: frozenset[int] = frozenset(), **values: object) -> None:
    """Write one record, with the words of `argv` at the places `hidden` hidden. Raises InternalError."""
    audit.counters.add(event, values.get("code"))
    audit.put(audit.line(event, hidden, values), values.get("id"), must=True)


def try_record(audit: Audit, event: str, hidden: frozenset[int] = frozenset(), **values: object) -> None:
    """Write one record; that it failed is logged."""
    audit.counters.add(event, values.get("code"))
    audit.put(audit.line(event, hidden, values), values.get("id"))
