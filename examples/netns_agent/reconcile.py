"""The difference between what shall be and what is, as commands; pure.

Promises: nothing without the prefix is touched, and where all is as wanted there is nothing to do.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .observed import Command, Link, Observed, Place, ip
from .wanted import End, Wanted

#: Commands that do not depend on each other.
Stage = tuple[Command, ...]

_MISSING = Link(index=0)


@dataclass(frozen=True, slots=True)
class _Target:
    """A link that shall be there, as it is once the pairs are made, and the addresses that it shall have."""

    place: Place
    name: str
    link: Link
    addresses: frozenset[str]


def plan(wanted: Wanted, observed: Observed) -> tuple[Stage, ...]:
    """Stages to be run one after the other, none empty; no stage when all is as wanted."""
    there = {veth for veth in wanted.veths if _joined(veth, observed)}
    kept = {(end.namespace, end.link) for veth in there for end in veth}
    namespaces = {place for place in observed if place is not None}
    targets = [*_loopbacks(wanted, observed), *_ends(wanted, observed, there)]
    stages = (
        # Before the namespaces: the kernel removes one, with its links, only when its last process is gone.
        tuple(ip(place, "link", "delete", "dev", name) for place, name in _surplus(wanted, observed, kept)),
        tuple(("ip", "netns", "delete", name) for name in sorted(namespaces - wanted.namespaces)),
        tuple(("ip", "netns", "add", name) for name in sorted(wanted.namespaces - namespaces)),
        tuple(_add_veth(*veth) for veth in wanted.veths if veth not in there),
        tuple(
            ip(target.place, "address", "delete", address, "dev", target.name)
            for target in targets
            for address in sorted(target.link.addresses - target.addresses)
        ),
        tuple(
            ip(target.place, "address", "add", address, "dev", target.name)
            for target in targets
            for address in sorted(target.addresses - target.link.addresses)
        ),
        tuple(
            ip(target.place, "link", "set", "dev", target.name, "up")
            for target in targets
            if not target.link.up
        ),
    )
    return tuple(stage for stage in stages if stage)


def _loopbacks(wanted: Wanted, observed: Observed) -> Iterator[_Target]:
    for place in sorted(wanted.namespaces):
        link = observed.get(place, {}).get("lo", _MISSING)
        yield _Target(place, "lo", link, link.addresses)


def _ends(wanted: Wanted, observed: Observed, there: set[tuple[End, End]]) -> Iterator[_Target]:
    for veth in wanted.veths:
        for end in veth:
            link = observed[end.namespace][end.link] if veth in there else _MISSING
            yield _Target(end.namespace, end.link, link, end.addresses)


def _joined(veth: tuple[End, End], observed: Observed) -> bool:
    """Whether both ends are there and are each other's."""
    first, second = (observed.get(end.namespace, {}).get(end.link, _MISSING) for end in veth)
    return first.peer == second.index and second.peer == first.index


def _surplus(wanted: Wanted, observed: Observed, kept: set[tuple[Place, str]]) -> Iterator[tuple[Place, str]]:
    """The pairs of ours that are not wanted: one end of each, for the other goes with it.

    An index counts in its own namespace, so two pairs can look alike; the next pass removes what was missed.
    """
    others: Counter[tuple[int | None, int]] = Counter()
    for place, links in observed.items():
        for name, link in links.items():
            ours = place is not None or name.startswith(wanted.prefix)
            if not ours or link.peer is None or (place, name) in kept:
                continue
            if others[link.index, link.peer]:
                others[link.index, link.peer] -= 1
            else:
                others[link.peer, link.index] += 1
                yield place, name


def _add_veth(first: End, second: End) -> Command:
    # The filters know one order: an end on the host comes first.
    if second.namespace is None:
        first, second = second, first
    place = () if first.namespace is None else ("netns", first.namespace)
    peer = ("peer", "name", second.link, "netns", str(second.namespace))
    return ("ip", "link", "add", "name", first.link, *place, "type", "veth", *peer)
