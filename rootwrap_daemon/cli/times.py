"""Read a point in time as journalctl(1) takes it: `5m`, `2h ago`, `yesterday`, `21:00`, `2026-02-28`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

#: Seconds of a unit: systemd.time(7).
_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400.0),
    **dict.fromkeys(("M", "month", "months"), 30.44 * 86400),
    **dict.fromkeys(("y", "year", "years"), 365.25 * 86400),
}
_SPAN: Final = re.compile(r"(?:\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z]+))", re.ASCII)
_CLOCK: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?", re.ASCII)
_DAYS: Final = {"today": 0, "yesterday": -1, "tomorrow": 1}
_EXAMPLES: Final = "write e.g. 5m, 2h, yesterday, 21:00 or 2026-02-28T13:30"


def point_in_time(text: str, now: datetime | None = None) -> datetime:
    """The local time that `text` means at `now`, by default the present.

    A span of time lies in the past, with or without `ago` behind it or a minus before it. Raises ValueError
    that says what to write.
    """
    now = datetime.now().astimezone() if now is None else now
    try:
        return _point(text.strip(), now)
    except (ValueError, KeyError, OverflowError, OSError):
        raise ValueError(f"{text!r} is no time: {_EXAMPLES}") from None


def _point(text: str, now: datetime) -> datetime:
    if text == "now":
        return now
    if text in _DAYS:
        return _on_day(now, _DAYS[text])
    if clock := _CLOCK.fullmatch(text):
        hour, minute, second = (int(part or 0) for part in clock.groups())
        return _on_day(now, 0, hour, minute, second)
    if text.startswith("@"):
        return datetime.fromtimestamp(float(text[1:]), UTC).astimezone()
    span = text.removeprefix("-").removesuffix("ago").strip()
    if span and "".join(match[0] for match in _SPAN.finditer(span)) == span:
        seconds = sum(float(match[1]) * _UNITS[match[2]] for match in _SPAN.finditer(span))
        return now - timedelta(seconds=seconds)
    # Without an offset it is local time.
    return datetime.fromisoformat(text).astimezone()


def _on_day(now: datetime, days: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    # By the calendar and the clock on the wall: a day may have 23 hours.
    day = now.replace(tzinfo=None, hour=hour, minute=minute, second=second, microsecond=0)
    return (day + timedelta(days=days)).astimezone()
