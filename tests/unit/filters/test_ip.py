"""filters/ip.py: ip's options and the words that each takes, and all in ip that gives root away."""

import pytest

from rootwrap_daemon.filters import ip

ALONE = """
    -4 -6 -0 -B -M -I -V -s -st -stat -stats -statistics -d -det -r -resolve -o -oneline -t -ts
    -tshort -timestamp -a -all -h -human -human-readable -he -help -i -iec -br -brief -j -json -p -pretty
    -N -Numeric -Version -e -echo -c -color -col -color=always -c=auto -color=never
""".split()
VALUED = {
    "-n": ("ns1", "a_b-c.d:e@f+g", "0", "x" * 255),
    "-ne": ("ns1",),
    "-net": ("net",),
    "-netns": ("netns",),
    "-f": ("inet", "inet6", "bridge", "link", "mpls"),
    "-family": ("inet",),
    "-fam": ("inet",),
    "-l": ("0", "10"),
    "-lo": ("10",),
    "-loops": ("999999999",),
    "-rc": ("1",),
    "-rcv": ("1",),
    "-rcvbuf": ("1048576",),
}
BAD_VALUES = {
    "-n": ("", ".", "..", "/run/netns/x", "../x", "a/b", "-x", ".hidden", "a b", "a\n", "ä", "x" * 256),
    "-f": ("", "help", "any", "ine", "INET"),
    "-l": ("", "netns", "-1", "1x", "\u0661", "1\n", "1234567890"),
    "-rc": ("", "x", "1k"),
}
REFUSED = """
    -b -ba -batch --batch -fo -for -force --force - -- ---s -x -S -st4 -netnsx -statsx -color=x -s=x -n=ns1
    -4x -44 -NU -J -é
""".split()


@pytest.mark.parametrize("dashes", ["", "-"])
@pytest.mark.parametrize("option", ALONE)
def test_an_option_alone(option: str, dashes: str) -> None:
    word = dashes + option
    assert ip.after_options((word,)) == 1
    assert ip.after_options((word, "link")) == 1
    assert ip.after_options((word, word, "link")) == 2
    # What follows is the object, whatever stands there.
    assert not ip.is_harmless((word, "netns", "exec", "x", "sh"))


@pytest.mark.parametrize("dashes", ["", "-"])
@pytest.mark.parametrize(("option", "values"), VALUED.items(), ids=list(VALUED))
def test_an_option_with_a_value(option: str, values: tuple[str, ...], dashes: str) -> None:
    word = dashes + option
    assert ip.after_options((word,)) is None
    for value in values:
        assert ip.after_options((word, value)) == 2
        assert ip.after_options((word, value, "-s", "link")) == 3
        assert ip.is_harmless((word, value, "link", "show"))
        assert not ip.is_harmless((word, value, "netns", "exec", "x", "sh"))


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in BAD_VALUES.items() for value in values]
)
def test_a_value_refused(option: str, value: str) -> None:
    assert ip.after_options((option, value, "link")) is None
    assert not ip.is_harmless((option, value, "link"))


@pytest.mark.parametrize("option", [*REFUSED, "-s ", "-\n"])
def test_an_option_refused(option: str) -> None:
    assert ip.after_options((option, "link")) is None
    assert ip.after_options(("-s", option)) is None
    assert not ip.is_harmless((option, "link"))


@pytest.mark.parametrize("word", ["link", "", "4", "netns"])
def test_the_first_other_word_ends_the_options(word: str) -> None:
    assert ip.after_options((word, "-b", "x")) == 0
    assert ip.after_options(()) == 0


def lines(text: str) -> list[str]:
    """Commands separated by `|` or the end of a line."""
    return [line.strip() for line in text.strip().replace("\n", "|").split("|")]


HARMLESS = lines("""
    | -s | link | -s -d link show lo | -o -4 addr show | -V | help | addr add 10.0.0.1/24 dev lo
    addr add fe80::1/64 dev lo | rule add fwmark 0x1/0xff lookup 10 | xfrm monitor all | xfrm state
    -6 route replace default via fe80::1 dev eth0 | route add 10.0.0.0/8 via 10.0.0.1
    rule add from 10.0.0.0/8 lookup 10 | neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev lo
    link add a type veth peer name b netns ns1 | link add v type vrf table 10 | link set a netns ns1 up
    link set a netns 4711 | link set lo xdp off | tuntap add t0 mode tap
    route add 10.0.0.0/8 encap mpls 100 via inet 10.0.0.1
    netns | netns list | netns show | net add ns1 | netns delete ns1 | netns pids ns1 | netns identify 1
    -n ns1 link show | vrf | vrf show | vrf identify 1 | monitor link | monitor all
    -4 route get 10.0.0.1 | -j -d link | -j -d -s link show dev eth0 | -br a | -6 neigh show proxy | -c link
    rule | rule show | rule del pref 100 | rule add iif lo fwmark 16/0xff lookup 10 | rule add to ::/0 table 5
    tunnel add t1 mode gre remote 10.0.0.1 local 10.0.0.2 ttl 64 | tunnel show | -6 tunnel add t2 mode ip6ip6
    macsec add macsec0 rx port 11 address 02:00:00:00:00:01 | macsec show
    macsec add macsec0 tx sa 0 pn 1 on key 01 81818181818181818181818181818181
    addr add 10.0.0.1/255.255.255.0 dev lo | route add 10.0.0.0/255.0.0.0 via 10.1.0.1 | addr del 10.0.0.1/0
    route add ::ffff:10.0.0.0/104 dev lo | route add 100/200 dev lo | route show to exact 10.0.0.0/8
    route add 10.0.0.0/8 encap mpls 100/200 via inet 10.0.0.1 dev eth0
    route add 10.0.0.0/8 encap ip id 1 dst 10.9.0.1 dev vxlan0
    -6 route add fc00::/64 encap seg6 mode encap segs fc00::1,fc00::2 dev eth0
    -6 route add fc00::/64 encap seg6 mode inline segs fc00::1 dev eth0
    -6 route add fc00::1 encap seg6local action End.DT4 vrftable 10 dev vrf0
    -6 route add fc00::1 encap seg6local action End.X nh6 fc00::9 dev eth0
    route add default dev encap | route add default nexthop via 10.0.0.1 dev a nexthop via 10.0.0.2 dev b
    nexthop add id 10 group 1,20/2,3 | nexthop add id 10 group 1/2 type resilient | nexthop show id 1
    nexthop add id 1 via 10.0.0.1 dev eth0 encap mpls 100 | nexthop replace id 1 blackhole
    l2tp add tunnel tunnel_id 1 peer_tunnel_id 2 encap udp local 10.0.0.1 remote 10.0.0.2 udp_sport 1
    l2tp add tunnel tunnel_id 1 peer_tunnel_id 2 encap ip local 10.0.0.1 remote 10.0.0.2 | l2tp show tunnel
    link set dev xdpbr0 up | link set xdpbr0 up | link add xdp1 type bridge | link set a master xdpbr0
    link set dev xdp up | link set dev x name xdp | link add name xdp type dummy | link set dev e xdp off
    link show xdp | link show dev x | link del xdpbr0 | link add link xdp name b.100 type vlan id 100
    link add v type vxlan id 42 dev eth0 remote 10.0.0.1 dstport 4789 | link set a alias file | link set f up
    monitor link dev f | monitor dev file | xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x1
    xfrm policy add src 10.0.0.0/24 dst 10.1.0.0/255.255.0.0 dir out | mptcp endpoint add 10.0.0.1 dev eth0
    fou add port 5555 ipproto 4 | sr tunsrc set fc00::1 | token set ::1/64 dev eth0 | maddr show | ntable
    stats show | tcp_metrics show 10.0.0.1 | ioam namespace show | netconf show dev lo | mroute show
""")


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless(line: str) -> None:
    assert ip.is_harmless(tuple(line.split()))


DANGERS = {
    "runs a program": """
        netns exec ns1 sh | net exec ns1 sh | netn e ns1 sh | n e ns1 sh | ne ex ns1 sh | netns exe
        netns exec
        -s -d -4 netns exec ns1 sh | -n ns1 netns exec ns2 sh | -l 1 netns exec ns1 sh | -all netns exec sh
        -l netns netns exec ns1 sh | -lo net net exec ns1 sh | -netns netns netns exec ns1 sh
        -c netns exec n sh
        -rc netns netns exec ns1 sh | -f netns netns exec ns1 sh | -net net net e ns1 sh | -br netns exec n sh
        vrf exec default sh | vr e default sh | v ex default sh | -s vrf exec default sh | vrf exec
        -n ns1 vrf exec default sh
    """,
    "reads commands": "-b /x | -batch - | -ba - | --b - | -force -batch - | -n a -b /x | -s -b - | -fo -b x",
    "takes a path for a namespace": """
        -n ../x link | -n /proc/1/ns/net link | -netns .. link | netns add ../x | netns attach ../../x 1
        netns del /x | netns pids .. | netns identify /x | netns set . 1 | netns monitor /x | net add a/b
        link set lo netns /proc/1/ns/net | link add a type veth peer name b netns ../x
        link add a link-netns /x type veth | link add a link-netn /x type veth | link set lo netn /x
    """,
    "takes an option for a name": "netns add -x | netns del -all | net pids --",
    "loads code": """
        link set lo xdp obj /x.o | link set lo xdp object-file /x | link set lo xdpgeneric obj /x
        link set lo xdpdrv pinned /x | link set lo xdpoffload obj /x | link set lo xdp | link set lo xdp of
        route add 1.1.1.1 encap bpf in obj /x | ro a 1.1.1.1 encap bp out obj /x | nexthop add id 1 encap b x
        route add 1.1.1.1 encap seg6local action End.BPF endpoint object-file x section s dev lo
        link add a type ../../x | link add a type /x | link show type a/b | link add x kind ../x
        link add a ty /x | link help ../x
        link set name dev xdp obj x | link set dev dev xdp obj x | link set dev a name name xdp obj x
        link set up xdp obj x | link set a up xdpgeneric pinned x | link set a mtu 1500 xdp obj x
        link set a x x
        link add a type veth peer xdp obj x | link set id xdp obj x | link set altname xdp obj x
        link set vrf xdp obj x | link set a vf 0 xdp obj x | link change a xdp obj x | li s a xdpd obj x
        route add default dev a encap bpf in obj x | route add default dev dev encap bpf in obj x
        route add default nexthop encap bpf in obj x | route add default via inet6 encap bpf in obj x
        route add fc00::1 encap seg6local action End.BPF e obj x | r c default encap bpf out obj x
        nexthop add id 1 dev a encap bpf in obj x | nexthop add group 1,2 encap bpf in obj x
        -6 route add fc00::/64 encap seg6 mode encap encap bpf in obj x
    """,
    "opens a file": """
        monitor file /x | mon f /x | m fi /x | monitor link file /x | mo all file x | -t monitor file x
        xfrm monitor file /x | x m f x | xfrm mon all file x
        monitor dev a file x | monitor dev dev file x | monitor label file x | mon f x
    """,
}


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=f"{why}: {line}") for why, text in DANGERS.items() for line in lines(text)]
)
def test_dangers(line: str) -> None:
    assert not ip.is_harmless(tuple(line.split()))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("",), id="object"),
        pytest.param(("", "exec", "ns1", "sh"), id="object before a verb"),
        pytest.param(("netns", "", "ns1", "sh"), id="verb of netns"),
        pytest.param(("vrf", "", "default", "sh"), id="verb of vrf"),
        pytest.param(("-s", ""), id="object after an option"),
        pytest.param(("monitor", "all", "", "/x"), id="word of monitor"),
    ],
)
def test_an_empty_word_means_anything_to_an_old_ip(words: tuple[str, ...]) -> None:
    assert not ip.is_harmless(words)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("netns", True),
        ("netn", True),
        ("net", True),
        ("ne", False),
        ("n", False),
        ("", False),
        ("netnss", False),
        ("Net", False),
    ],
)
def test_is_netns(word: str, meant: bool) -> None:
    assert ip.is_netns(word) == meant
