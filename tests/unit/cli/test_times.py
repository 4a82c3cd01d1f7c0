"""Points in time as journalctl(1) takes them: systemd.time(7)."""

import time
from datetime import datetime, timedelta

import pytest

from rootwrap_daemon.cli.times import point_in_time


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> "object":
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_what_it_means() -> None:
    now = datetime(2026, 3, 29, 13, 0).astimezone()  # the clock went forward that night
    for text, wanted in {
        "now": "2026-03-29T13:00:00+02:00",
        "5m": "2026-03-29T12:55:00+02:00",
        "-5min": "2026-03-29T12:55:00+02:00",
        "2h ago": "2026-03-29T11:00:00+02:00",
        "1h 30min": "2026-03-29T11:30:00+02:00",
        "today": "2026-03-29T00:00:00+01:00",
        "yesterday": "2026-03-28T00:00:00+01:00",
        "21:00": "2026-03-29T21:00:00+02:00",
        "1:30:15": "2026-03-29T01:30:15+01:00",
        "2026-02-28": "2026-02-28T00:00:00+01:00",
        "2026-02-28 13:30": "2026-02-28T13:30:00+01:00",
        "2026-02-28T13:30+00:00": "2026-02-28T13:30:00+00:00",
        "@1767225600": "2026-01-01T00:00:00+00:00",
    }.items():
        assert point_in_time(text, now) == datetime.fromisoformat(wanted), text
    assert now - point_in_time("1w", now) == timedelta(days=7)


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 lightyears", "25:00", "12:60", "@x", "2026-13-01", "5m later"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: write"):
        point_in_time(text)
