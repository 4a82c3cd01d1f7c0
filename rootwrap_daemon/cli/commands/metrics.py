"""Print a running daemon's figures for Prometheus, or write them where the node exporter reads text files.

Promises: a file is replaced whole, and says `rootwrap_daemon_up 0` when the daemon does not answer.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rootwrap_daemon.analysis import told
from rootwrap_daemon.cli import arguments
from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import ConfigurationError, Error, Usage

if TYPE_CHECKING:
    from prometheus_client.core import Metric

EPILOG = (
    "example:\n"
    "  rootwrapctl metrics --instance neutron \\\n"
    "      --output /var/lib/prometheus/node-exporter/rootwrap-daemon-neutron.prom\n"
    "\n"
    "A timer that runs this every minute keeps the file current."
)


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_daemon(parser)
    parser.add_argument("--output", metavar="FILE", help="a file, its name ending in .prom; default: print")


def run(args: argparse.Namespace) -> int:
    try:
        from prometheus_client import CollectorRegistry, generate_latest, write_to_textfile
    except ImportError as error:
        what = "install prometheus-client beside it by pip, or Debian's python3-prometheus-client"
        raise ConfigurationError(f"{error}: {what}") from error
    path = arguments.socket_path(args)
    failed: Error | None = None
    report: dict[str, Any] | None = None
    try:
        report = Client(path).status()
    except Error as error:
        failed = error
    registry = CollectorRegistry()
    # What tells this daemon's figures from another's on the same host.
    registry.register(_Collector(os.path.basename(path).removesuffix(".sock"), report))
    if args.output is None:
        sys.stdout.write(generate_latest(registry).decode())
    else:
        if not args.output.endswith(".prom"):
            raise Usage(f"--output {args.output}: the node exporter reads only names that end in .prom")
        told.check_target(args.output)
        # It runs as another user.
        os.umask(0o022)
        write_to_textfile(args.output, registry)
    if failed is not None:
        raise failed
    return 0


class _Collector:
    """One report as metrics, made when they are asked for: a registry calls this."""

    def __init__(self, name: str, report: dict[str, Any] | None) -> None:
        self._name = name
        self._report = report

    def collect(self) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
            family = GaugeMetricFamily(f"rootwrap_daemon_{name}", text, labels=["daemon"])
            family.add_metric([self._name], value)
            return family

        report = self._report
        yield gauge("up", "Whether the daemon answers.", float(report is not None))
        if report is None:
            return
        policy = report["policy"]
        info = GaugeMetricFamily("rootwrap_daemon_info", "Its version.", labels=["daemon", "version"])
        info.add_metric([self._name, str(report["version"])], 1.0)
        yield info
        yield gauge("uptime_seconds", "Seconds since it was started.", report["uptime_seconds"])
        yield gauge("policy_generation", "Grows by one with each reload that succeeds.", policy["generation"])
        yield gauge("policy_filters", "Filters in force.", policy["filters"])
        skipped = policy["findings_skipped"]
        yield gauge("policy_findings_skipped", "Errors in filter files that were left out.", skipped)
        if (last := report.get("last_reload")) is not None:
            ok = float(last["ok"])
            yield gauge("last_reload_successful", "Whether the last reload changed the rules.", ok)
            when = datetime.fromisoformat(last["time"]).timestamp()
            yield gauge("last_reload_timestamp_seconds", "When the last reload was.", when)
        yield gauge("connections", "Connections now.", report["connections"]["now"])
        yield gauge("connections_most", "Connections that there may be.", report["connections"]["most"])
        yield gauge("commands_running", "Commands running now.", report["running"]["now"])
        yield gauge("commands_most", "Commands that may run at once.", report["running"]["most"])
        oldest = max((one["age_seconds"] for one in report["commands"]), default=0.0)
        yield gauge("oldest_command_seconds", "Age of the command that has run for longest.", oldest)
        name, text = "rootwrap_daemon_commands_running_by_filter", "Commands running now, of the 500 oldest."
        by_filter = GaugeMetricFamily(name, text, labels=["daemon", "filter"])
        for name, count in Counter(one["filter"] for one in report["commands"]).items():
            by_filter.add_metric([self._name, name], count)
        yield by_filter
        text = "Requests by what became of them, since the start: the events and codes of audit records."
        events = CounterMetricFamily("rootwrap_daemon_events", text, labels=["daemon", "event", "code"])
        for event, codes in report["counters"].items():
            for code, count in codes.items():
                events.add_metric([self._name, event, code], count)
        yield events
