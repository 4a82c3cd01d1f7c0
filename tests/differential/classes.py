"""Every known difference to oslo.rootwrap, as a function that says whether it explains a way.

A way is one filter (or chain) of one engine that allows an argv. A function of OSLO_ALONE is asked about
ways that oslo.rootwrap has and we must not have; one of OURS_ALONE about those that we have and it has not. A
name begins with the row of the past flaws (a5) or the decision record (d0004) that says why. None may explain
a way that both have: so each says exactly where we differ, and none can grow into one that explains all.
"""

import os
import re
from collections.abc import Callable
from itertools import takewhile
from typing import Final

from oslo_rootwrap import filters as oslo

from rootwrap_daemon.filters import chains, ip, kinds
from tests.differential.engines import Argv, OsloWay, OurWay, resolved

# What ip(8) reads, written down a second time: from its manual, not from our engine.
_OPTIONS: Final = {
    **dict.fromkeys(
        "4 6 0 B M I human human-readable iec stats statistics details resolve oneline timestamp tshort "
        "Version brief json pretty Numeric all echo help color batch force".split(),
        0,
    ),
    **dict.fromkeys("loops family rcvbuf netns".split(), 1),
}
_LETTERS: Final = {name[0]: name for name in "family netns resolve human stats details loops oneline all "
                   "timestamp color json pretty Numeric Version iec".split()} | {"rc": "rcvbuf"}  # fmt: skip
_NETNS: Final = ("net", "netn", "netns")
_EXEC: Final = ("e", "ex", "exe", "exec")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,254}")
_XDP: Final = ("xdp", "xdpgeneric", "xdpdrv", "xdpoffload")
_ADDRESS: Final = re.compile(
    r"([0-9.]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*|0x[0-9A-Fa-f]+)/([0-9]{1,3}|0x[0-9A-Fa-f]+)", re.ASCII
)


def _ip_problems(words: Argv) -> set[str]:
    """What is wrong with the words after `ip`."""
    index = 0
    while index < len(words) and words[index].startswith("-"):
        name, equals, shade = words[index][1:].removeprefix("-").partition("=")
        meant = {_LETTERS.get(name, "")} - {""} or {one for one in _OPTIONS if name and one.startswith(name)}
        if meant & {"batch", "force"}:
            return {"batch"}
        values = {_OPTIONS[one] for one in meant}
        if len(values) != 1 or (values == {1} and len(meant) > 1):
            return {"option"}
        if equals and ("color" not in meant or shade not in ("always", "auto", "never")):
            return {"option"}
        index += 1
        if values == {1}:
            value = words[index] if index < len(words) else ""
            if meant == {"netns"} and not _NAME.fullmatch(value):
                return {"name"}
            if meant == {"family"} and value not in ("inet", "inet6", "bridge", "link", "mpls"):
                return {"value"}
            if meant <= {"loops", "rcvbuf"} and not re.fullmatch("[0-9]{1,9}", value, re.ASCII):
                return {"value"}
            index += 1
    return _object_problems(words[index:])


def _object_problems(words: Argv) -> set[str]:
    if not words:
        return set()
    found = set()
    rest = words[1:]
    if "" in words[:2]:
        found.add("empty")
    if "netns".startswith(words[0]) and rest:
        if "exec".startswith(rest[0]):
            found.add("netns exec")
        if any("/" in word or word in (".", "..") or word.startswith("-") for word in rest):
            found.add("name")
    if "vrf".startswith(words[0]) and rest and "exec".startswith(rest[0]):
        found.add("vrf exec")
    if any("monitor".startswith(word) for word in words[:2]) and any("file".startswith(w) for w in rest):
        found.add("file")
    if any(word in (".", "..") or ("/" in word and not _ADDRESS.fullmatch(word)) for word in rest):
        found.add("file")
    for word, value in zip(rest, (*rest[1:], ""), strict=False):
        if any(one.startswith(word) for one in _XDP) and value != "off":
            found.add("code")
        if word == "encap":
            found.add("code")
    return found


def _ip(way: OsloWay) -> set[str]:
    return _ip_problems(way.inner[1:]) if isinstance(way.last, oslo.IpFilter) else set()


def _judged(way: OsloWay) -> list[tuple[str, str]]:
    """Each pattern that took a word, with the word."""
    found: list[tuple[str, str]] = []
    if isinstance(way.outer, oslo.ChainingRegExpFilter):
        found += zip(way.outer.args, way.words, strict=False)
    if isinstance(way.last, oslo.RegExpFilter):
        found += zip(way.last.args, way.inner, strict=True)
    return found


def _names(one: oslo.CommandFilter) -> tuple[str, str]:
    """What the first word may be for this filter: its program by path or by name."""
    if isinstance(one, oslo.EnvFilter):
        return "env", "env"
    path = one.exec_path
    if isinstance(one, (oslo.KillFilter, oslo.ReadFileFilter)):
        path = os.path.basename(path)
    return path, os.path.basename(path)


def _below(one: oslo.CommandFilter, words: Argv) -> list[tuple[str, str]]:
    """Each base directory of a PathFilter, with the word that must be beneath it."""
    pairs = zip(one.args, words[1:], strict=False) if isinstance(one, oslo.PathFilter) else ()
    return [(base, word) for base, word in pairs if base.startswith("/")]


def _in_netns(way: OsloWay) -> bool:
    return isinstance(way.outer, oslo.IpNetnsExecFilter)


def _assignments(words: Argv) -> dict[str, str]:
    """The NAME=value words after `env`."""
    found = {}
    for word in words[words[:1] == ("env",) :]:
        name, equals, value = word.partition("=")
        if not equals:
            break
        found[name] = value
    return found


# --- oslo.rootwrap allows it, we do not ---


def a1_netns_exec_behind_an_option(way: OsloWay) -> bool:
    """IpFilter: the first word `netns` was an option's value, so nobody looked at the object."""
    return "netns exec" in _ip(way)


def a1_options_that_are_not_ips(way: OsloWay) -> bool:
    """IpFilter: an option without a known number of words, or with a value it cannot have."""
    return not _ip(way).isdisjoint({"option", "value"})


def a3_batch_and_force(way: OsloWay) -> bool:
    """IpFilter: -batch reads commands that no filter saw."""
    return "batch" in _ip(way)


def a4_vrf_exec(way: OsloWay) -> bool:
    """IpFilter: `vrf exec` runs any program."""
    return "vrf exec" in _ip(way)


def a13_empty_words(way: OsloWay) -> bool:
    """IpFilter: an empty object or command is an abbreviation of every one."""
    return "empty" in _ip(way)


def d0011_object_that_is_not_known(way: OsloWay) -> bool:
    """IpFilter there lets any word through as the object; ip itself then refuses it."""
    start = ip.after_options(way.raw[1:])
    if not isinstance(way.last, oslo.IpFilter) or start is None or start >= len(way.raw) - 1:
        return False
    return not any(known.startswith(way.raw[1 + start]) for known in _OBJECTS)


_OBJECTS: Final = (
    "address addrlabel maddress route rule neighbor neighbour ntable ntbl link l2tp fou ila macsec tunnel "
    "tunl tuntap tap token tcpmetrics tcp_metrics monitor xfrm mroute mrule netns netconf vrf sr nexthop "
    "mptcp ioam help stats"
).split()


def b23_names_with_a_path(way: OsloWay) -> bool:
    """A namespace's name with a slash is any file; so with `-n`, `netns attach`, `netns exec`."""
    return "name" in _ip(way) or (_in_netns(way) and not _NAME.fullmatch(way.words[3]))


def b23_files_and_code(way: OsloWay) -> bool:
    """IpFilter: words that make ip open a file of the caller's choice, or load code into the kernel."""
    # Whether such a word can be a keyword in its place, tests/unit/filters/test_ip.py has by itself.
    return not _ip(way).isdisjoint({"file", "code"}) and not ip.is_harmless(way.inner[1:])


def a5_inner_program_elsewhere(way: OsloWay) -> bool:
    """IpNetnsExecFilter checks the base name of the inner program and runs the path."""
    return _in_netns(way) and "/" in way.raw[0] and way.raw[0] not in _names(way.last)


def a6_inner_program_elsewhere(way: OsloWay) -> bool:
    """ChainingRegExpFilter does as well."""
    chain = isinstance(way.outer, oslo.ChainingRegExpFilter)
    return chain and "/" in way.raw[0] and way.raw[0] not in _names(way.last)


def a7_program_named_like_a_variable(way: OsloWay) -> bool:
    """In a chain without the word env, `NAME=value` is the program that would run."""
    return way.leaf is not None and isinstance(way.last, oslo.EnvFilter) and "=" in way.raw[0]


def a9_implicit_privsep(way: OsloWay) -> bool:
    """privsep-helper with any arguments, by no filter of the file."""
    return way.last.name == "privsep-helper"


def a10_pattern_in_a_path_filter(way: OsloWay) -> bool:
    """A regular expression in a PathFilter, which compares paths: refused at load."""
    return isinstance(way.last, oslo.PathFilter) and any("(" in word for word in way.last.args)


def a11_value_of_a_variable(way: OsloWay) -> bool:
    """EnvFilter does not look at the values that are written in it."""
    if not isinstance(way.last, oslo.EnvFilter):
        return False
    given, wanted = _assignments(way.inner), _assignments(way.last.args)
    return any(value and given[name] != value for name, value in wanted.items())


def a11_arguments_of_env(way: OsloWay) -> bool:
    """EnvFilter counts its arguments and does not look at them."""
    if not isinstance(way.last, oslo.EnvFilter):
        return False
    count = len(_assignments(way.last.args)) + 1
    patterns, words = way.last.args[count:], way.inner[way.inner[:1] == ("env",) :][count:]
    fit = len(patterns) == len(words) and all(map(lambda p, w: re.fullmatch(p, w, re.ASCII), patterns, words))
    return bool(patterns) and not fit


def b3_root_as_base(way: OsloWay) -> bool:
    """A PathFilter whose base is / lets everything through: refused at load."""
    return isinstance(way.last, oslo.PathFilter) and "/" in way.last.args


def b1_longer_name_beside_the_base(way: OsloWay) -> bool:
    """PathFilter compares characters: /var/lib/images-evil begins like /var/lib/images."""
    return any(
        not (resolved(word) + "/").startswith(base.rstrip("/") + "/")
        for base, word in _below(way.last, way.inner)
    )


def b3_option_for_a_free_word(way: OsloWay) -> bool:
    """`pass` in a PathFilter lets options through, which change what the other words mean."""
    return isinstance(way.last, oslo.PathFilter) and any(
        expected == "pass" and word.startswith("-")
        for expected, word in zip(way.last.args, way.inner[1:], strict=True)
    )


def b3_relative_path(way: OsloWay) -> bool:
    """A PathFilter's path that depends on the directory that the caller is in."""
    return any(not word.startswith("/") for _, word in _below(way.last, way.inner))


def b5_newline_at_the_end(way: OsloWay) -> bool:
    """`$` matches before a newline at the end."""
    return any(
        word.endswith("\n") and not re.fullmatch(p, word, re.ASCII) and re.fullmatch(p, word[:-1])
        for p, word in _judged(way)
    )


def b6_only_the_last_branch_is_anchored(way: OsloWay) -> bool:
    """`a|b` + `$`: what follows an a is not looked at."""
    return any(
        "|" in p and not re.fullmatch(p, word) and not re.fullmatch(p, word.removesuffix("\n"))
        for p, word in _judged(way)
    )


def b7_flag_that_hides_the_end(way: OsloWay) -> bool:
    """With (?x) the `$` is part of a comment: refused at load."""
    return any("(?x" in p for p, _ in _judged(way))


def b8_other_scripts(way: OsloWay) -> bool:
    r"""`\d` takes digits of every script, `(?i)` a KELVIN SIGN for a k."""
    return any(re.fullmatch(p, word) and not re.fullmatch(p, word, re.ASCII) for p, word in _judged(way))


def b9_another_name_for_the_program(way: OsloWay) -> bool:
    """Only the first pattern looks at argv[0], whatever program runs."""
    if isinstance(way.outer, oslo.ChainingRegExpFilter) and way.words[0] not in _names(way.outer):
        return True
    return isinstance(way.last, oslo.RegExpFilter) and way.inner[0] not in _names(way.last)


def b9_pattern_for_another_program(way: OsloWay) -> bool:
    """A first pattern that does not match the filter's own program: refused at load."""
    return isinstance(way.last, oslo.RegExpFilter) and not any(
        re.fullmatch(way.last.args[0], name) for name in _names(way.last)
    )


def b9_netns_filter_of_another_program(way: OsloWay) -> bool:
    """IpNetnsExecFilter for ping or tc would run that with the words of ip: refused at load."""
    return _in_netns(way) and os.path.basename(way.outer.exec_path) != "ip"


def b10_comma_in_a_pattern(way: OsloWay) -> bool:
    """`{1,3}` is split into two fields, which match something else: refused at load."""
    return any(re.search(r"\{[0-9]*$", p) for p, _ in _judged(way))


def b13_chain_without_patterns(way: OsloWay) -> bool:
    """A ChainingRegExpFilter without a pattern runs its program with whatever another filter allows."""
    return isinstance(way.outer, oslo.ChainingRegExpFilter) and not way.outer.args


def b14_words_lost_on_the_way(way: OsloWay) -> bool:
    """EnvFilter.match takes `env` off the list that later filters judge."""
    if not isinstance(way.last, oslo.EnvFilter):
        lost = way.leaf is not None and way.inner[1:] != way.raw[1:]
        return way.words != way.argv or (lost and way.raw[0] not in _names(way.last))
    # For an EnvFilter one word `env` more or less is the same; two are not.
    return way.argv[:2] == ("env", "env") or way.raw[:2] == ("env", "env") or (
        way.leaf is not None and way.words != way.argv
    )  # fmt: skip


def b15_empty_variable(way: OsloWay) -> bool:
    """`NAME=` leaves the daemon's own value in place of an empty one."""
    empty = isinstance(way.last, oslo.EnvFilter) and "" in _assignments(way.inner).values()
    return empty and way.leaf is None


def b17_numbers_that_only_int_reads(way: OsloWay) -> bool:
    """KillFilter takes whatever int() takes for a process number."""
    return isinstance(way.last, oslo.KillFilter) and not re.fullmatch("[1-9][0-9]*", way.inner[-1], re.ASCII)


def b24_template_for_a_program(way: OsloWay) -> bool:
    """A program's path that an unrendered template left relative: refused at load."""
    return "{{" in way.last.exec_path


def b26_one_name_twice(way: OsloWay) -> bool:
    """The later of two definitions wins silently: refused at load, both."""
    return any("second time, defined otherwise" in one.what for one in way.errors)


def b30_path_of_a_leaf(way: OsloWay) -> bool:
    """In a chain the path goes on as it came, not as it was resolved for the check."""
    return way.leaf is not None and any(resolved(word) != word for _, word in _below(way.last, way.inner))


def d0002_long_words(way: OsloWay) -> bool:
    """Words over 4 KiB reach no pattern, those of an EnvFilter among them."""
    words = [word for _, word in _judged(way)]
    if isinstance(way.last, oslo.EnvFilter):
        count = len(_assignments(way.last.args)) + 1
        words += way.inner[way.inner[:1] == ("env",) :][count:] if way.last.args[count:] else ()
    return any(len(word) > 4096 for word in words)


def d0003_kill_in_a_chain(way: OsloWay) -> bool:
    """A signal needs no program around it."""
    return way.leaf is not None and isinstance(way.last, oslo.KillFilter)


def d0004_field_that_nothing_looks_at(way: OsloWay) -> bool:
    """A CommandFilter with arguments, which oslo.rootwrap ignores: refused at load."""
    return type(way.last) is oslo.CommandFilter and way.last.args != ()


def d0004_control_characters(way: OsloWay) -> bool:
    """`NAME=` admits a value without control characters."""
    env = _assignments(way.inner) if isinstance(way.last, oslo.EnvFilter) else {}
    return any(not char.isprintable() and ord(char) < 160 for value in env.values() for char in value)


def d0070_value_that_names_a_file(way: OsloWay) -> bool:
    """`LANG=` and the like admit names of locales and terminals, not paths or formats of printf(3)."""
    env = _assignments(way.inner) if isinstance(way.last, oslo.EnvFilter) else {}
    return any(
        re.fullmatch("LANG|LANGUAGE|LC_.*|TERM|COLORTERM|TZ", name) and re.search("[^A-Za-z0-9_.:@+-]", value)
        for name, value in env.items()
    )


# --- we allow it, oslo.rootwrap does not ---


def a1_a_word_that_is_not_the_object(way: OurWay) -> bool:
    """IpFilter there refuses the first `netns e...` anywhere, also where it is no object and command."""
    words = way.raw[1:]
    netns = next((index for index, word in enumerate(words) if word in _NETNS), len(words))
    return isinstance(way.last, kinds.IpFilter) and words[netns + 1 : netns + 2] in [(one,) for one in _EXEC]


def a5_inner_program_by_its_path(way: OurWay) -> bool:
    """A chain there judges the base name, also where the leaf's pattern asks for the path."""
    return way.leaf is not None and "/" in way.raw[0] and isinstance(way.last, kinds.RegExpFilter)


def b1_base_with_a_slash_behind(way: OurWay) -> bool:
    """Compared by characters, the base /srv is not beneath /srv/."""
    filters = isinstance(way.last, kinds.PathFilter)
    return filters and any(resolved(word) == "/srv" for word in way.raw[1:])


def b14_word_that_would_be_lost(way: OurWay) -> bool:
    """A filter for env(1) itself behind an EnvFilter, which has taken the word away."""
    count = len(list(takewhile("env".__eq__, way.raw)))
    lost = way.behind_env if way.leaf is None else way.behind_env >= count
    return count > 0 and bool(lost) and not isinstance(way.last, kinds.EnvFilter)


def b15_variable_set_to_nothing(way: OurWay) -> bool:
    """The other half of b15_empty_variable: with us it is empty."""
    return isinstance(way.last, kinds.EnvFilter) and way.leaf is None and "" in dict(way.effect.env).values()


def b30_path_of_a_leaf_resolved(way: OurWay) -> bool:
    """The other half of b30_path_of_a_leaf."""
    return (
        way.leaf is not None
        and isinstance(way.last, kinds.PathFilter)
        and way.effect.words[-1:] != way.raw[-1:]
    )


def open_kill_with_s(way: OurWay) -> bool:
    """`kill -s HUP 1` is a form of kill(1) that only our KillFilter knows."""
    return isinstance(way.last, kinds.KillFilter) and way.argv[1] == "-s"


def d0004_ip_by_its_path(way: OurWay) -> bool:
    """argv[0] may be the configured program by name or path; the kinds for ip there take only `ip`."""
    return isinstance(way.outer, (kinds.IpFilter, chains.IpNetnsExecFilter)) and way.argv[0] != "ip"


OSLO_ALONE: Final[tuple[Callable[[OsloWay], bool], ...]] = (
    a1_netns_exec_behind_an_option,
    a1_options_that_are_not_ips,
    a3_batch_and_force,
    a4_vrf_exec,
    a13_empty_words,
    d0011_object_that_is_not_known,
    b23_names_with_a_path,
    b23_files_and_code,
    a5_inner_program_elsewhere,
    a6_inner_program_elsewhere,
    a7_program_named_like_a_variable,
    a9_implicit_privsep,
    a10_pattern_in_a_path_filter,
    a11_value_of_a_variable,
    a11_arguments_of_env,
    b3_root_as_base,
    b1_longer_name_beside_the_base,
    b3_option_for_a_free_word,
    b3_relative_path,
    b5_newline_at_the_end,
    b6_only_the_last_branch_is_anchored,
    b7_flag_that_hides_the_end,
    b8_other_scripts,
    b9_another_name_for_the_program,
    b9_pattern_for_another_program,
    b9_netns_filter_of_another_program,
    b10_comma_in_a_pattern,
    b13_chain_without_patterns,
    b14_words_lost_on_the_way,
    b15_empty_variable,
    b17_numbers_that_only_int_reads,
    b24_template_for_a_program,
    b26_one_name_twice,
    b30_path_of_a_leaf,
    d0002_long_words,
    d0003_kill_in_a_chain,
    d0004_field_that_nothing_looks_at,
    d0004_control_characters,
    d0070_value_that_names_a_file,
)

OURS_ALONE: Final[tuple[Callable[[OurWay], bool], ...]] = (
    a1_a_word_that_is_not_the_object,
    a5_inner_program_by_its_path,
    b1_base_with_a_slash_behind,
    b14_word_that_would_be_lost,
    b15_variable_set_to_nothing,
    b30_path_of_a_leaf_resolved,
    open_kill_with_s,
    d0004_ip_by_its_path,
)
