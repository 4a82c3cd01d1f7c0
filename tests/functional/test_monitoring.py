"""The alert rules and the dashboard that come along name figures that `rootwrapctl metrics` has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from rootwrap_daemon.cli import ctl
from tests.real_daemon import Daemon

MONITORING = Path(__file__).parents[2] / "etc/rootwrap-daemon/monitoring"
NAME = re.compile(r"\brootwrap_daemon_\w+")


@pytest.fixture
def samples(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> dict[str, set[str]]:
    """Name of a figure -> its labels, of a daemon that has done a bit of everything."""
    with daemon.client() as client:
        client.run(["true"])
    assert daemon.reload()
    with daemon.client().popen(["sleep", "1000"]) as running:
        assert ctl.main(["metrics", "--socket", daemon.socket]) == 0
        running.kill()
    families = text_string_to_metric_families(capsys.readouterr().out)
    found: dict[str, set[str]] = {}
    for one in (sample for family in families for sample in family.samples):
        found.setdefault(one.name, set()).update(one.labels)
    return found


def expressions(value: Any) -> Iterator[str]:
    """Yield what stands under `expr` and `query`."""
    if isinstance(value, dict):
        yield from (text for key in ("expr", "query") if isinstance(text := value.get(key), str))
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from expressions(part)


def check(texts: list[str], samples: dict[str, set[str]]) -> None:
    for text in texts:
        for name in NAME.findall(text):
            assert name in samples, f"{name}, of {text}"
        # What the node exporter or Prometheus adds, and what a figure has.
        known = {"instance"}.union(*(samples[name] for name in NAME.findall(text)))
        grouped = [
            label.strip() for words in re.findall(r"by \(([^)]*)\)", text) for label in words.split(",")
        ]
        selected = re.findall(r"[{,]\s*(\w+)=", text)
        assert {*grouped, *selected} <= known, text


def test_alert_rules(samples: dict[str, set[str]]) -> None:
    found = yaml.safe_load((MONITORING / "rootwrap-daemon.rules.yml").read_text())
    rules = [rule for group in found["groups"] for rule in group["rules"]]
    assert len(rules) >= 6
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
    texts = list(expressions(found))
    assert len(texts) == len(rules)
    check(texts, samples)
    assert any("last_reload_successful == 0" in text for text in texts)


def test_commands_that_alerts_advise_exist() -> None:
    text = (MONITORING / "rootwrap-daemon.rules.yml").read_text()
    advised = re.findall(r"`rootwrapctl ([a-z-]+)", text)
    assert advised and set(advised) <= set(ctl.COMMANDS)


def test_dashboard(samples: dict[str, set[str]]) -> None:
    found = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one in panels:
        assert one["type"] in ("stat", "timeseries")
        assert one["title"] and one["targets"]
        place = one["gridPos"]
        assert place["x"] + place["w"] <= 24
    texts = [text for text in expressions(found) if "rootwrap_daemon_" in text]
    check(texts, samples)
    shown = {name for text in texts for name in NAME.findall(text)}
    # All there is can be seen, but what its version is and when it was reloaded.
    assert set(samples) - shown <= {"rootwrap_daemon_info", "rootwrap_daemon_last_reload_timestamp_seconds"}


def test_a_figure_that_does_not_exist_is_noticed(samples: dict[str, set[str]]) -> None:
    with pytest.raises(AssertionError):
        check(["rootwrap_daemon_no_such_figure > 0"], samples)
    with pytest.raises(AssertionError):
        check(["sum by (nobody) (rootwrap_daemon_up)"], samples)
