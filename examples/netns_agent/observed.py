"""What is: the words that ask `ip`, and its JSON -> frozen values; pure."""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass

Command = tuple[str, ...]

#: Where a link is: the name of a namespace, None for the host.
Place = str | None


@dataclass(frozen=True, slots=True)
class Link:
    """A network link. `peer`: the index of the other end of a veth pair, None for any other kind."""

    index: int
    peer: int | None = None
    up: bool = False
    addresses: frozenset[str] = frozenset()


#: The links of each namespace that is ours, and of the host.
Observed = Mapping[Place, Mapping[str, Link]]


def ip(place: Place, *words: str) -> Command:
    """The words of an `ip` command for a namespace or the host."""
    return ("ip", *words) if place is None else ("ip", "-n", place, *words)


#: Asks for the names of all namespaces.
LIST: Command = ("ip", "-j", "netns", "list")


def show(place: Place) -> Command:
    """Asks for the links of a namespace or the host, with their addresses."""
    return ip(place, "-j", "address", "show")


def parse_namespaces(output: bytes) -> list[str]:
    """The names in the output of `LIST`."""
    # Without any namespace some versions of ip print nothing at all.
    return [str(entry["name"]) for entry in json.loads(output or b"[]")]


def parse_links(output: bytes) -> dict[str, Link]:
    """The links in the output of `show`, by name."""
    entries = [entry for entry in json.loads(output or b"[]") if "ifname" in entry]
    index = {entry["ifname"]: entry["ifindex"] for entry in entries}
    return {
        entry["ifname"]: Link(
            index=entry["ifindex"],
            # "link" names a peer beside it, "link_index" counts in the peer's own namespace.
            peer=entry.get("link_index", index.get(entry.get("link"))),
            up="UP" in entry["flags"],
            addresses=frozenset(
                str(ipaddress.ip_interface(f"{address['local']}/{address['prefixlen']}"))
                for address in entry["addr_info"]
                # Link-local addresses are the kernel's own doing.
                if address["scope"] != "link"
            ),
        )
        for entry in entries
    }
