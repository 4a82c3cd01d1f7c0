"""How ip(8) reads its words, as far as a filter must know it to refuse what gives root away.

Promises: a word that any released iproute2 could read as something dangerous is refused, also where the one
installed reads it otherwise. Source: ip.c, utils.c (matches), ipnetns.c, ipvrf.c, ipmonitor.c, iplink_xdp.c.
"""

import re
from typing import Final

# matches(): a word stands for every keyword that it is a beginning of; ip takes the first in its table.
_OPTIONS_ALONE: Final = (
    "4 6 0 B M I human human-readable iec stats statistics details resolve oneline timestamp tshort Version "
    "brief json pretty Numeric all echo help color"
).split()
_OPTIONS_WITH_VALUE: Final = "loops family rcvbuf netns".split()
_OPTIONS_REFUSED: Final = "force batch".split()
# ip(8) documents these letters; by beginnings alone each would be ambiguous.
_LETTERS: Final = {
    "f": "family",
    "n": "netns",
    "r": "resolve",
    "h": "human",
    "s": "stats",
    "d": "details",
    "l": "loops",
    "o": "oneline",
    "a": "all",
    "t": "timestamp",
    "c": "color",
    "j": "json",
    "p": "pretty",
    "N": "Numeric",
    "V": "Version",
    "rc": "rcvbuf",
    "i": "iec",
}
_FAMILIES: Final = frozenset("inet inet6 bridge link mpls".split())

#: The objects of iproute2; what else stands in their place is nothing that is known to be harmless.
_OBJECTS: Final = frozenset(
    "address addrlabel maddress route rule neighbor neighbour ntable ntbl link l2tp fou ila macsec tunnel "
    "tunl tuntap tap token tcpmetrics tcp_metrics monitor xfrm mroute mrule netns netconf vrf sr nexthop "
    "mptcp ioam help stats".split()
)

#: A network namespace's name: one component of a path that is never mistaken for an option.
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,254}")


def is_namespace(word: str) -> bool:
    """True if this can only be the name of a namespace in /run/netns: no slash, no dots alone, no blank."""
    return _NAMESPACE.fullmatch(word) is not None


def could_mean(word: str, keyword: str) -> bool:
    """True if some ip could take `word` for `keyword`. Old ones take an empty word for anything."""
    return keyword.startswith(word)


def is_netns(word: str) -> bool:
    """True if every ip takes `word` for the object netns (`n` and `ne` mean neighbour)."""
    return word in ("net", "netn", "netns")


def after_options(words: tuple[str, ...]) -> int | None:
    """Where the object stands in the words after `ip`; None if an option is unknown, ambiguous or refused."""
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
    kind, rest = words[start], words[start + 1 :]
    if not kind or not any(could_mean(kind, known) for known in _OBJECTS):
        return False
    verb = rest[0] if rest else None
    if verb == "":
        return False
    if could_mean(kind, "netns"):
        # Whatever follows a verb is a name, a process number or an identifier; a path is setns to any file.
        if verb is not None and could_mean(verb, "exec"):
            return False
        if any("/" in word or word in (".", "..") or word.startswith("-") for word in rest):
            return False
    if could_mean(kind, "vrf") and verb is not None and could_mean(verb, "exec"):
        return False
    # `ip monitor file F`, `ip xfrm monitor file F`, and the same through an alias of either.
    if any(could_mean(word, "monitor") for word in words[start : start + 2]) and any(
        could_mean(word, "file") for word in rest
    ):
        return False
    if any(word in (".", "..") or ("/" in word and not _ADDRESS.fullmatch(word)) for word in rest):
        return False
    return not any(map(_names_code, rest, (*rest[1:], "")))


# An address with its length, a mark with its mask: all that has a slash and is no path. Whatever else has one
# could be opened: by `type` (link_X.so), `netns`, `link-netns`, `object`, and beginnings of them.
_ADDRESS = re.compile(
    r"(?:[0-9.]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*|0x[0-9A-Fa-f]+)/(?:[0-9]{1,3}|0x[0-9A-Fa-f]+)", re.ASCII
)
_ENCAPSULATIONS: Final = frozenset("mpls ip ip6 ila seg6 rpl ioam6 xfrm".split())


def _names_code(word: str, value: str) -> bool:
    """True if `word value` makes ip load a program into the kernel."""
    if word.startswith("xdp"):  # an eBPF object file, or one pinned in bpffs
        return value != "off"
    # encap bpf in obj FILE, encap seg6local ... endpoint obj FILE
    return word == "encap" and value not in _ENCAPSULATIONS
