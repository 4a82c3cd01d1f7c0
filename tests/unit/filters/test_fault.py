"""filters/read/fault.py: what is wrong, where, and what to do."""

from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.read.fault import Fault


def test_a_fault_takes_its_first_place() -> None:
    here, there = Location("f", 1, 2), Location("f", 3, 4)
    fault = Fault("kind", "what", "remedy")
    assert str(fault) == "what: remedy"
    assert fault.at(here).at(there).location == here
    assert str(fault) == "f:1:2: what: remedy"
