"""Read the words of ip(8) as it does, as far as a filter must to refuse what runs programs or reads files.

Promises: a word that any released iproute2 could read as something dangerous is refused, also where the one
installed reads it otherwise. Source: ip.c, utils.c (matches), ipnetns.c, ipvrf.c, ipmonitor.c, iplink_xdp.c.
"""

import re
from collections.abc import Iterator
from typing import Final

# matches(): a word stands for every keyword that it is a beginning of; ip takes the first in its table.
_OPTIONS_ALONE: Final = (
    "4 6 0 B M I human human-readable iec stats statistics details resolve oneline timestamp tshort Version "
    "brief json pretty Numeric all echo help color"
).split()
_OPTIONS_WITH_VALUE: Final = "loops family rcvbuf netns".split()
_OPTIONS_REFUSED: Final = "force batch".split()
# ip(8) documents these letters; by beginnings alone each would be ambiguous.
_LETTERS: Final = dict(
    pair.split("=")
    for pair in "f=family n=netns r=resolve h=human s=stats d=details l=loops o=oneline a=all t=timestamp "
    "c=color j=json p=pretty N=Numeric V=Version rc=rcvbuf i=iec".split()
)
_FAMILIES: Final = frozenset("inet inet6 bridge link mpls".split())

#: The objects of iproute2; what else stands in their place is nothing that is known to be harmless.
_OBJECTS: Final = frozenset(
    "address addrlabel maddress route rule neighbor neighbour ntable ntbl link l2tp fou ila macsec tunnel "
    "tunl tuntap tap token tcpmetrics tcp_metrics monitor xfrm mroute mrule netns netconf vrf sr nexthop "
    "mptcp ioam help stats".split()
)

#: A network namespace's name: one component of a path that is never mistaken for an option.
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,254}")


# As strtol(3) with base 0 reads a number, which is the id of a process to `ip link set ... netns`.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]+|0[bB][01]+", re.ASCII)


def is_namespace(word: str) -> bool:
    """True if this can only be the name of a namespace in /run/netns: no slash, no dots alone, no blank."""
    return _NAMESPACE.fullmatch(word) is not None


def is_namespace_anywhere(word: str) -> bool:
    """True for the name of a namespace that ip never reads as the id of a process."""
    return is_namespace(word) and _NUMBER.fullmatch(word) is None


def could_mean(word: str, keyword: str) -> bool:
    """True if some ip could take `word` for `keyword`. Old ones take an empty word for anything."""
    return keyword.startswith(word)


def is_netns(word: str) -> bool:
    """True if every ip takes `word` for the object netns (`n` and `ne` mean neighbour)."""
    return word in ("net", "netn", "netns")


def after_options(words: tuple[str, ...]) -> int | None:
    """Find the object in the words after `ip`; None if an option is unknown, ambiguous or refused."""
    index = 0
    while index < len(words) and words[index].startswith("-"):
        word = words[index]
        if word in ("-", "--"):
            return None
        name, equals, color = word[1:].removeprefix("-").partition("=")
        option = _option(name)
        if option is None or (equals and (option != "color" or color not in ("always", "auto", "never"))):
            return None
        index += 1
        if option in _OPTIONS_WITH_VALUE:
            if index >= len(words) or not _is_value(option, words[index]):
                return None
            index += 1
    return index


def _option(name: str) -> str | None:
    if name in _LETTERS:
        return _LETTERS[name]
    if not name or any(option.startswith(name) for option in _OPTIONS_REFUSED):
        return None
    alone = [option for option in _OPTIONS_ALONE if option.startswith(name)]
    valued = [option for option in _OPTIONS_WITH_VALUE if option.startswith(name)]
    # Only where all readings take the same number of words is the rest of the line certain.
    if alone and not valued:
        return alone[0]
    return valued[0] if len(valued) == 1 and not alone else None


def _is_value(option: str, word: str) -> bool:
    if option == "netns":
        return is_namespace(word)
    if option == "family":
        return word in _FAMILIES
    return re.fullmatch(r"[0-9]{1,9}", word, re.ASCII) is not None


def is_harmless(words: tuple[str, ...]) -> bool:
    """True if these words after `ip` run no program, read no file of the caller's choice and name no path."""
    start = after_options(words)
    if start is None:
        return False
    if start == len(words):
        return True
    word, rest = words[start], words[start + 1 :]
    objects = [known for known in _OBJECTS if could_mean(word, known)] if word else []
    if not objects or (rest and not rest[0]):
        return False
    # Paths are taken by `type` (link_X.so), `netns`, `link-netns`, `object`, `file` and beginnings of them.
    if any(word in (".", "..") or ("/" in word and not _VALUE.fullmatch(word)) for word in rest):
        return False
    return not any(_gives_away(known, rest) for known in objects)


# An address with its length or mask, a mark with its mask, labels of MPLS, next hops with their weights: all
# that has a slash and is no path.
_VALUE = re.compile(
    r"(?:[0-9.]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)/(?:[0-9]{1,3}|[0-9]+(?:\.[0-9]+){3})"
    r"|0x[0-9A-Fa-f]+/(?:0x)?[0-9A-Fa-f]+|[0-9]+/0x[0-9A-Fa-f]+|[0-9]+(?:[,/][0-9]+)+",
    re.ASCII,
)
#: Objects and the verb by which they run a program.
_RUNS: Final = {"netns": "exec", "vrf": "exec"}
#: Keywords that take exactly the next word as their value, which then is no keyword. All releases read it so
#: or end with an error. What is not here may take a value or not; what follows is looked at both ways.
_VALUED: Final = {
    "link": frozenset(
        "dev name link master group alias address broadcast mtu txqueuelen qlen type netns".split()
    ),
    "route": frozenset(
        "dev oif via table proto protocol scope metric priority preference src encap mode segs action "
        "nh4 nh6".split()
    ),
    "nexthop": frozenset("dev via id group encap mode segs action nh4 nh6".split()),
    "monitor": frozenset(("dev",)),
    "xfrm": frozenset(),
}
#: Words that stand alone, and are no keyword that matters.
_ALONE: Final = {
    "link": frozenset(("up", "down")),
    "route": frozenset("default all any nexthop onlink blackhole unreachable prohibit throw".split()),
    "nexthop": frozenset(("blackhole", "onlink", "fdb")),
    "monitor": frozenset("all link address route mroute neigh netconf rule nexthop stats".split()),
    "xfrm": frozenset(),
}
_SHOWS: Final = frozenset("show sh list lst ls".split())
_XDP: Final = ("xdp", "xdpgeneric", "xdpdrv", "xdpoffload")
#: What behind `encap` only says how packets are wrapped. The others load eBPF object files.
_ENCAPSULATIONS: Final = frozenset("mpls ip ip6 ila seg6 rpl ioam6 xfrm seg6local".split())


def _gives_away(known: str, rest: tuple[str, ...]) -> bool:
    """True if ip could read the words behind this object as a program, or as a file to read or load."""
    verb = rest[0] if rest else ""
    if known in _RUNS and verb and could_mean(verb, _RUNS[known]):
        return True
    if known == "netns":
        # A name, a process number or an identifier follows each verb. `a` is add; attach would give a name to
        # what anybody has made, for each command that may run in a namespace by its name.
        is_attach = len(verb) > 1 and could_mean(verb, "attach")
        return is_attach or any("/" in word or word.startswith("-") for word in rest)
    if (known == "xfrm" and not could_mean(verb, "monitor")) or (known == "link" and verb in _SHOWS):
        return False
    return known in _VALUED and any(_loads(known, rest, place) for place in _keyword_places(known, rest))


def _keyword_places(known: str, rest: tuple[str, ...]) -> Iterator[int]:
    """The places where ip could read a keyword: all but a verb, and what is certainly a value."""
    valued, alone = _VALUED[known], _ALONE[known]
    # Can this word be a keyword, can it be a value?
    keyword, value = True, False
    for place, word in enumerate(rest):
        # Behind `property` stands another verb.
        if known != "monitor" and (not place or (place == 1 and rest[0] == "property")):
            continue
        if keyword:
            yield place
        # An address or a number has no value behind it.
        plain = word in alone or _NUMBER_FIRST.match(word) is not None
        keyword, value = value or (keyword and word not in valued), keyword and not plain


_NUMBER_FIRST: Final = re.compile(r"[0-9:]|[0-9A-Fa-f]*:", re.ASCII)


def _loads(known: str, rest: tuple[str, ...], place: int) -> bool:
    """True if ip could read `rest[place]` as a keyword that makes it open the file behind it."""
    word, behind = rest[place], rest[place + 1] if place + 1 < len(rest) else ""
    if known == "link":
        # An eBPF object file, or one pinned in bpffs. An empty word alone names neither.
        return any(could_mean(word, one) for one in _XDP) and behind != "off" and bool(word or behind)
    if known in ("monitor", "xfrm"):
        return could_mean(word, "file")
    if word != "encap":
        return False
    # encap bpf in obj FILE, encap seg6local ... endpoint obj FILE
    return behind not in _ENCAPSULATIONS or (
        behind == "seg6local" and any(could_mean(word, "endpoint") for word in rest[place + 2 :])
    )
