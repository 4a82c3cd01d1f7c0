"""Paths of policy tests that stand in a scratch directory."""

import pytest

from rootwrap_daemon.analysis.testing.suite import Stage

STAGE = Stage("/tmp/s", ("/var/lib/nova", "/run/x"))


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("/var/lib/nova", "/tmp/s/var/lib/nova"),
        ("/var/lib/nova/images/a", "/tmp/s/var/lib/nova/images/a"),
        ("{path=/var/lib/nova}", "{path=/tmp/s/var/lib/nova}"),
        ("--a=/var/lib/nova/x,/run/x/y", "--a=/tmp/s/var/lib/nova/x,/tmp/s/run/x/y"),
        ("/var/lib/nova/../../x", "/tmp/s/var/lib/nova/../../x"),
        ("/var/lib/nova2", "/var/lib/nova2"),
        ("/var/lib/nova-x", "/var/lib/nova-x"),
        ("/srv/var/lib/nova", "/srv/var/lib/nova"),
        ("/etc/passwd", "/etc/passwd"),
    ],
)
def test_only_whole_paths_are_moved_and_come_back(text: str, there: str) -> None:
    assert STAGE.there(text) == there
    assert STAGE.back(there) == text
