"""filters/argv_types.py: every alphabet and length, against oracles that know nothing of its patterns."""

import ipaddress
import os
import socket
import string
import subprocess
import sys
import unicodedata
import uuid
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rootwrap_daemon.filters.argv_types import Choice, Typed
from rootwrap_daemon.filters.plan import Beneath, ProcessOf
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.types import typed

ALNUM = string.ascii_letters + string.digits
HEX = string.digits + "abcdefABCDEF"
#: Every one of these has meant something to some program, somewhere, that it did not mean to a filter.
NASTY = (
    "\n\r\t\0 -+/.:,%@_=*~\\\"'$`;#|<>[]{}0a"
    "\x01\x1b\x7f\x80\xa0é\u0661\uff11\u2028\u202e\u200b\udcff\U0001f600"
)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("path", None), ("pid", None), ("name", "x"), ("new", None), ("new", "x"), ("any", "")],
)
def test_a_type_that_there_is_not(name: str, parameter: str | None) -> None:
    with pytest.raises(ValueError, match=f"there is no such type: {name}"):
        Typed(name, parameter)


def _takes(name: str, parameter: str | None = None) -> Callable[[str], bool]:
    return typed(name, parameter).takes


# --- what each type is, written anew --------------------------------------------------------------------


def _inet(family: int, word: str) -> bool:
    try:
        socket.inet_pton(family, word)
    except (OSError, ValueError):  # ValueError: NUL, or a character that is no byte
        return False
    return True


def _is_ipv4(word: str) -> bool:
    return _inet(socket.AF_INET, word)


def _is_ipv6(word: str) -> bool:
    return _inet(socket.AF_INET6, word)


def _is_ip(word: str) -> bool:
    return _is_ipv4(word) or _is_ipv6(word)


def _is_cidr(word: str) -> bool:
    if word.count("/") != 1:
        return False
    address, length = word.split("/")
    return (_is_ipv4(address) and length in map(str, range(33))) or (
        _is_ipv6(address) and length in map(str, range(129))
    )


def _is_int(word: str) -> bool:
    return 0 < len(word) <= 18 and set(word) <= set(string.digits) and word == str(int(word))


def _is_mac(word: str) -> bool:
    parts = word.split(":")
    return len(parts) == 6 and all(len(part) == 2 and set(part) <= set(HEX) for part in parts)


def _is_uuid(word: str) -> bool:
    try:
        return word.isascii() and str(uuid.UUID(word)) == word.lower()
    except ValueError:
        return False


def _is_ifname(word: str) -> bool:
    """dev_valid_name() of net/core/dev.c; then what we leave out."""
    name = word.encode("utf-8", "surrogateescape")
    if not name or len(name) >= 16 or name in (b".", b".."):
        return False
    # isspace() of lib/ctype.c: 160 is a blank there.
    if any(byte in b"/:\t\n\v\f\r \xa0" for byte in name):
        return False
    return all(0x20 < byte < 0x7F and byte != ord("%") for byte in name) and name[:1] != b"-"


def _within(first: str, others: str, most: int) -> Callable[[str], bool]:
    return lambda word: word[:1] != "" and word[0] in first and set(word) <= set(others) and len(word) <= most


def _is_text(word: str) -> bool:
    categories = {unicodedata.category(character) for character in word if character != " "}
    return 0 < len(word) <= 4096 and not any(category[0] in "CZ" for category in categories)


def _is_number(word: str) -> bool:
    """As strtol(3) reads one to its end, with any base."""
    digits = word.lower()
    for base, known in (("0x", HEX), ("0b", "01"), ("", "0123456789")):
        if digits.startswith(base) and digits != base:
            return all(sign in known.lower() for sign in digits.removeprefix(base))
    return False


ORACLES: dict[tuple[str, str | None], Callable[[str], bool]] = {
    ("any", None): lambda word: _is_text(word) and word[0] != "-",
    ("cidr", None): _is_cidr,
    ("ifname", None): _is_ifname,
    ("int", None): _is_int,
    ("int", "1-4094"): lambda word: word in map(str, range(1, 4095)),
    ("int", "-12-12"): lambda word: word in map(str, range(-12, 13)),
    ("int", "-3--1"): lambda word: word in ("-3", "-2", "-1"),
    ("ip", None): _is_ip,
    ("ipv4", None): _is_ipv4,
    ("ipv6", None): _is_ipv6,
    ("mac", None): _is_mac,
    ("name", None): _within(ALNUM + "_", ALNUM + "_.-", 64),
    ("netns", None): lambda word: _within(ALNUM + "_", ALNUM + "_.:@+-", 255)(word) and not _is_number(word),
    ("path", "/srv"): lambda word: _is_text(word) and word[0] == "/",
    ("pid", "/usr/sbin/dnsmasq"): lambda word: _is_int(word) and 0 < int(word) <= 2147483647,
    ("secret", None): lambda word: _is_text(word) and word[0] != "-",
    ("user", "nova|cinder"): lambda word: word in ("nova", "cinder"),
    ("uuid", None): _is_uuid,
}
NAMES = [name if parameter is None else f"{name}={parameter}" for name, parameter in ORACLES]

# --- words of each type ---------------------------------------------------------------------------------

_v4 = st.ip_addresses(v=4).map(str)
_v6 = st.one_of(
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda address: ipaddress.IPv6Address(address).exploded),
    st.ip_addresses(v=6).map(lambda address: str(address).upper()),
    _v4.map("::ffff:{}".format),
    _v4.map("::{}".format),
    _v4.map("64:ff9b::{}".format),
    st.tuples(st.integers(0, 7), st.integers(0, 7)).map(
        lambda n: ":".join(["1"] * n[0]) + "::" + ":".join(["2"] * n[1])
    ),
)
_ip = _v4 | _v6


def _spelled(first: str, others: str, most: int) -> st.SearchStrategy[str]:
    return st.builds(str.__add__, st.sampled_from(first), st.text(others, max_size=most - 1))


_printable = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
WORDS: dict[tuple[str, str | None], st.SearchStrategy[str]] = {
    ("any", None): st.text(_printable, min_size=1).filter(lambda word: word[0] != "-"),
    ("cidr", None): st.builds("{}/{}".format, _v4, st.integers(0, 32))
    | st.builds("{}/{}".format, _v6.filter(_is_ipv6), st.integers(0, 128)),
    ("ifname", None): st.text(ALNUM + "!\"#$&'()*+,.;<=>?@[\\]^_`{|}~", min_size=1, max_size=15).filter(
        lambda word: word not in (".", "..")
    ),
    ("int", None): st.integers(0, 10**18 - 1).map(str),
    ("int", "1-4094"): st.integers(1, 4094).map(str),
    ("int", "-12-12"): st.integers(-12, 12).map(str),
    ("int", "-3--1"): st.integers(-3, -1).map(str),
    ("ip", None): _v4 | _v6.filter(_is_ipv6),
    ("ipv4", None): _v4,
    ("ipv6", None): _v6.filter(_is_ipv6),
    ("mac", None): st.lists(st.text(HEX, min_size=2, max_size=2), min_size=6, max_size=6).map(":".join),
    ("name", None): _spelled(ALNUM + "_", ALNUM + "_.-", 64),
    ("netns", None): _spelled(ALNUM + "_", ALNUM + "_.:@+-", 255).filter(lambda word: not _is_number(word)),
    ("path", "/srv"): st.text(_printable).map("/{}".format),
    ("pid", "/usr/sbin/dnsmasq"): st.integers(1, 2**31 - 1).map(str),
    ("secret", None): st.text(_printable, min_size=1).filter(lambda word: word[0] != "-"),
    ("user", "nova|cinder"): st.sampled_from(("nova", "cinder")),
    ("uuid", None): st.uuids().map(str) | st.uuids().map(lambda found: str(found).upper()),
}
assert WORDS.keys() == ORACLES.keys()


@st.composite
def _near(draw: st.DrawFn, words: st.SearchStrategy[str]) -> str:
    """A word of the type, with one or two characters put in, put in another's place, doubled or taken out."""
    word = draw(words)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(word)))
        # Often at an end, where most mistakes were made.
        at = draw(st.sampled_from((at, 0, len(word))))
        new = draw(st.sampled_from(NASTY) | st.sampled_from(word or "x"))
        word = word[:at] + draw(st.sampled_from((new, new, ""))) + word[at + draw(st.integers(0, 1)) :]
    return word


every_type = pytest.mark.parametrize("kind", ORACLES, ids=NAMES)


@every_type
def test_a_word_of_the_type(kind: tuple[str, str | None]) -> None:
    takes = _takes(*kind)
    seen = set()

    @given(WORDS[kind])
    def check(word: str) -> None:
        assert ORACLES[kind](word), "the test's own words are wrong"
        assert takes(word)
        seen.add(word)

    check()
    assert len(seen) > 1


@every_type
def test_a_word_that_is_not_quite_of_the_type(kind: tuple[str, str | None]) -> None:
    takes = _takes(*kind)
    verdicts = set()

    @given(_near(WORDS[kind]) | st.text() | _near(st.one_of(*WORDS.values())))
    @example("")
    @example("-")
    @example("--help")
    def check(word: str) -> None:
        verdict = takes(word)
        assert verdict == ORACLES[kind](word)
        assert not verdict or kind[1] in ("-12-12", "-3--1") or word[0] != "-"
        verdicts.add(verdict)

    check()
    assert False in verdicts


IPV4 = "0.0.0.0 255.255.255.255 10.0.0.1".split()
NO_IPV4 = "1.2.3 1.2.3.4.5 01.2.3.4 1.2.3.256 0x7f.1 2130706433 1.2.3.-4".split()
IPV6 = """
    :: ::1 1:: fe80::1 ::ffff:127.0.0.1 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7:: 1:2:3:4:5:6:1.2.3.4 ABCD::
""".split()
NO_IPV6 = """
    fe80::1%eth0 fe80::1% : ::: 1:2:3:4:5:6:7 1::2::3 12345:: ::1/64 [::1] ::01.2.3.4 1:2:3:4:5:6:7:1.2.3.4
    ::ffff:1.2.3 ::g 1:2:3:4:5:6:7:8:9 ::1. 1.2.3.4::
""".split()
#: What no type takes but `any` and `path`, if they begin as those do.
NEVER = (
    "",
    "-",
    "--",
    "-x",
    " ",
    "x y",
    "x ",
    "\n",
    "x\n",
    "x\t",
    "x\x00",
    "é",
    "x/y/z\x7f",
    "\udcff",
    "\uff11",
)
UNPRINTABLE = (
    "\n",
    "x\n",
    "x\ty",
    "x\r",
    "x\x00",
    "x\x1b[2J",
    "\x7f",
    "x\x85",
    "\udcff",
    "x\u2028",
    "\u202ex",
    "\xa0",
)
TABLE: dict[str, tuple[list[str], list[str]]] = {
    "ip": ([*IPV4, *IPV6], [*NO_IPV4, *NO_IPV6, "localhost", "10.0.0.0/8", "default"]),
    "ipv4": (IPV4, [*NO_IPV4, *IPV6]),
    "ipv6": (IPV6, [*NO_IPV6, *IPV4]),
    "cidr": (
        "10.0.0.0/8 10.0.0.1/24 0.0.0.0/0 1.2.3.4/32 ::/0 2001:db8::1/128 ::ffff:1.2.3.4/96".split(),
        [
            *IPV4,
            *IPV6,
            *"10.0.0.0/ 10.0.0.0/33 10.0.0.0/08 10.0.0.0/+8 10.0.0.0/-1 10.0.0.0/255.0.0.0 ::/129 /8".split(),
            *"10.0.0.0/8/8 ::1%lo/64 10.0.0.0/1111 10.0.0.0//8 default any".split(),
        ],
    ),
    "int": (["0", "7", "10", "9" * 18], [*"00 07 +7 -7 -0 7.0 1e3 0x1 1_0 ² 7k".split(), "9" * 19]),
    "int=-5-5": (["-5", "0", "5"], "-6 6 -0 05 --5 \u22125 +5".split()),
    "int=0-0": (["0"], ["1", "-0", "00"]),
    "mac": (
        ["00:11:22:33:44:55", "AA:bb:CC:dd:EE:ff"],
        """
            00-11-22-33-44-55 0011.2233.4455 0:1:2:3:4:5 00:11:22:33:44 00:11:22:33:44:55:66 00:11:22:33:44:5g
            001122334455 00:11:22:33:44:
        """.split(),
    ),
    "uuid": (
        ["01234567-89ab-cdef-0123-456789abcdef", "01234567-89AB-CDEF-0123-456789ABCDEF"],
        """
            0123456789abcdef0123456789abcdef {01234567-89ab-cdef-0123-456789abcdef}
            urn:uuid:01234567-89ab-cdef-0123-456789abcdef 01234567-89ab-cdef-0123-456789abcdeg
            01234567-89ab-cdef-0123456789abcdef 01234567-89ab-cdef-0123-456789abcde
            0123456789ab-cdef-0123-456789abcdef 01234567-89abcdef-0123-456789abcdef
        """.split(),
    ),
    "ifname": (
        [
            "x" * 15,
            *"eth0 lo a br-int eth0.100 tap12345678-9a _ + * @ a@b ... .a ...x a,b [x] ~ ! { a-".split(),
        ],
        ["x" * 16, *". .. a/b / a:b : a%d % eth% a\x7f \x01".split(" ")],
    ),
    "netns": (
        [
            "x" * 255,
            *"ns1 0a 1_0 0xg 0x 0b2 1e3 1.0".split(),
            *"qrouter-01234567-89ab-cdef-0123-456789abcdef a.b:c@d+e-f_g a..".split(),
        ],
        ["x" * 256, *"0 1 4711 007 0x1f 0X1F 0b1 0B10".split(), *". .. .x ../x a/b / @x +x :x a%b".split()],
    ),
    "name": (
        ["x" * 64, *"a _ 0 vm-1.example_2 a..b A-".split()],
        ["x" * 65, *". .. .x a/b a@b a+b a:b a,b".split()],
    ),
    "user=nova|cinder": (["nova", "cinder"], ["nova|cinder", "root", "nova ", "Nova", "0"]),
    "user=a_b.c-D1$": (["a_b.c-D1$"], ["a_bxc-D1$", "a_b.c-D1"]),
    "path=/srv": (
        [*"/ /srv /srv/../etc // /é".split(), "/x y", "/" + "x" * 4095],
        [*"srv ./srv -/srv ~/srv .".split(), "/" + "x" * 4096, *map("/{}".format, UNPRINTABLE)],
    ),
    "pid=dnsmasq": ("1 4194304 2147483647".split(), "0 -1 +1 01 2147483648 9999999999 self 1. 1_0".split()),
    "any": (
        ["x y", "x ", "é", "x" * 4096, *"x +x /x = a-b \u2013x \U0001f600".split()],
        ["", "-", "--", "-x", "x" * 4097, *UNPRINTABLE],
    ),
    "secret": (["x y", "é", "x" * 4096, "a=b"], ["", "-x", "x" * 4097, *UNPRINTABLE]),
}


@pytest.mark.parametrize("kind", TABLE)
def test_table(kind: str) -> None:
    name, _, parameter = kind.partition("=")
    takes = _takes(name, parameter or None)
    taken, refused = TABLE[kind]
    assert [word for word in taken if not takes(word)] == []
    assert [word for word in refused if takes(word)] == []
    assert name in ("any", "path", "secret") or [word for word in NEVER if takes(word)] == []


def test_each_type_is_in_the_table() -> None:
    with pytest.raises(Fault) as caught:
        typed("nothing", None)
    listed = set(caught.value.remedy.removeprefix("use one of ").partition(", or ")[0].split(", "))
    assert listed == {kind.partition("=")[0] for kind in TABLE} == {name for name, _ in ORACLES}


def test_what_only_the_host_can_judge() -> None:
    path, pid = typed("path", "/srv/x/"), typed("pid", "dnsmasq")
    assert isinstance(path, Typed) and path.make is not None
    assert path.make("/srv/x/y") == Beneath("/srv/x", "/srv/x/y")
    assert isinstance(pid, Typed) and pid.make is not None
    assert pid.make("12") == ProcessOf("dnsmasq", 12)
    for name in ("any", "ip", "name"):
        plain = typed(name, None)
        assert isinstance(plain, Typed) and plain.make is None
    assert typed("user", "nova|cinder") == Choice(frozenset(("nova", "cinder")))


NO_RANGE = (
    *"5 5- -5 1-2-3 5-1 01-5 1-05 +1-5 -0-5 0x1-0x5 \u0661-5 1--5".split(),
    *("", "1 - 5", "1-5\n", "1-" + "9" * 19),
)
NO_USERS = ("", "|", "nova|", "0", "1000", "-x", "nova,cinder", "no va", "nova\n", "a/b", "é", "a|0")
NO_BASE = (
    *"/ // srv ./srv /a/../b /a/./b /a//b ~/x".split(),
    *"/var/* /var/.+ /a|/b /(a) /a? /[a] /{a} /$HOME /a^ /a\\b".split(),
    *("", "/a\n"),
)
NO_PROGRAM = (*"-x / . .. a/b ./a /usr/sbin/ /usr/../x /usr/sbin/dns* a|b /a|/b".split(), *("", "a b", "x\n"))


@pytest.mark.parametrize(
    ("name", "parameter", "what"),
    [
        ("", None, "there is no type ''"),
        ("IP", None, "there is no type 'IP'"),
        ("nova", "x", "there is no type 'nova'"),
        ("ip", "10.0.0.0/8", "ip takes no parameter"),
        ("name", "", "name takes no parameter"),
        ("user", None, "user needs a parameter"),
        ("path", None, "path needs a parameter"),
        ("pid", None, "pid needs a parameter"),
        *(("int", text, "is not a range") for text in NO_RANGE),
        *(("user", text, "does not name users") for text in NO_USERS),
        *(("path", text, "is not a plain absolute path") for text in NO_BASE),
        *(("pid", text, "is not a program") for text in NO_PROGRAM),
    ],
)
def test_a_type_that_cannot_be_used(name: str, parameter: str | None, what: str) -> None:
    with pytest.raises(Fault) as caught:
        typed(name, parameter)
    assert what in caught.value.what
    assert caught.value.remedy


# In a network namespace of its own: TUNSETIFF with each word, and the name that the kernel gave.
_KERNEL = """
import errno, fcntl, os, struct, sys
for word in sys.argv[1:]:
    tun = os.open("/dev/net/tun", os.O_RDWR)
    try:
        answer = fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", os.fsencode(word), 0x1002))
        print(answer[:16].rstrip(b"\\0") == os.fsencode(word))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        print(False)
    os.close(tun)
"""


def test_the_kernel_takes_each_ifname() -> None:
    words = [word for word in TABLE["ifname"][0] if word != "lo"]  # is there already
    letters = [chr(number) for number in range(0x21, 0x7F)]
    words += [letter + "x" for letter in letters]
    words += ["x" + letter for letter in letters]
    command = ["unshare", "--net", sys.executable, "-c", _KERNEL, *words]
    if os.geteuid() != 0:
        command[1:1] = ["--map-root-user"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tun device in a network namespace of one's own: {done.stderr.strip()[-80:]}")
    kernel = {word for word, line in zip(words, done.stdout.split(), strict=True) if line == "True"}
    ours = set(filter(_takes("ifname"), words))
    assert ours <= kernel
    assert kernel - ours == {"-x"}
