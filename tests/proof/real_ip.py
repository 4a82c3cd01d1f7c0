"""Give the real ip(8) what an IpFilter allows, and see by strace(1) whether it does what that says it cannot.

Whatever `filters.ip.is_harmless` takes for harmless executes no program, opens no file that a word names,
loads no eBPF, and goes nowhere by `..`. In namespaces of its own: a user's, of the network, of mounts, of
processes.
"""

import importlib
import io
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from rootwrap_daemon.filters import ip

HOLDS: Final = "What an IpFilter allows executes nothing, opens nothing that a word names, and loads no eBPF."
Words = tuple[str, ...]

#: What is dangerous, and what is not; an input is one of these, changed.
LINES: Final = tuple(
    tuple(line.split())
    for line in """
    netns exec x agent.sh
    -all netns exec agent.sh
    -n x netns exec x agent.sh
    netns add x
    netns attach x 1
    netns set x auto
    netns identify 1
    netns pids x
    vrf exec x agent.sh
    vrf show x
    -batch list
    -force -batch list
    -n x -4 -j -d link show
    -family inet -rcvbuf 9 route
    monitor file list
    monitor all dev x label
    xfrm monitor file list
    xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 1 mode transport
    xfrm policy list
    link set dev lo xdp obj prog.o sec x
    link set dev lo xdpgeneric pinned prog.o
    link set lo xdpdrv off
    link add x type dummy
    link add x type vlan id 5 link lo
    link add name x index 7 type veth peer name y netns x
    link property add dev x altname y
    link set x alias prog.o master y
    link show type prog.o
    route add 10.0.0.0/8 encap bpf in obj prog.o sec x dev lo
    route add ::/0 encap seg6local action End.BPF endpoint obj prog.o sec x dev lo
    route add ::/0 encap seg6 mode encap segs ::1,::2 dev lo
    route add 10.0.0.0/8 via 10.0.0.1 dev lo table 5 proto static metric 9 onlink
    route add default nexthop via 10.0.0.1 dev lo weight 1 nexthop via 10.0.0.2 dev lo
    route get 10.0.0.1 mark 1/0xf
    route save table all
    route restore
    nexthop add id 1 encap bpf out obj prog.o dev lo
    nexthop add id 1 group 1,20/2,3
    rule add from 10.0.0.0/255.255.255.0 fwmark 0x1/0xf table list
    address add 10.0.0.1/8 dev lo label lo:x
    address save
    address restore
    neigh add 10.0.0.1 lladdr 00:00:00:00:00:01 dev lo
    tuntap add dev x mode tun user 0
    tunnel add x mode gre remote 10.0.0.1 local 10.0.0.2
    l2tp add tunnel tunnel_id 1 peer_tunnel_id 1 encap udp local ::1 remote ::1 udp_sport 1 udp_dport 2
    macsec add lo tx sa 0 pn 1 on key 01 list
    token set ::1 dev lo
    mptcp endpoint show
    sr hmac set 1 sha256
    fou add port 5555 ipproto 4
    ila add loc_match 1:1:1:1 loc 2:2:2:2 dev lo
    ioam namespace add 1
    tcp_metrics show
    stats show dev lo group link
    help
    """.strip().splitlines()
)
#: Words that ip has a meaning for somewhere, and values; files of these names lie where it works.
FILES: Final = ("agent.sh", "list", "prog.o", "x", "y", "1", "lo", "sec", "obj", "file")
_OTHERS: Final = """
./prog.o .. . ../agent.sh /proc/self/cwd/prog.o {0}/prog.o x/../../list - -- object-file object-pinned verbose
dynamic down up default -b -ba -c=always -net --netns -o -s -fo End.DT6 bpf ioam6 rpl xfrm link-netns off
"""
POOL: Final = ("", *sorted({*(word for line in LINES for word in line), *_OTHERS.split()}))


def at_random(source: random.Random, directory: Path) -> Words:
    """Words for ip: a line with some of them cut, moved, left out, doubled or exchanged."""
    words = list(source.choice(LINES))
    for _ in range(source.randrange(5)):
        at = source.randrange(len(words))
        match source.randrange(7):
            case 0:
                words.insert(at, source.choice(POOL).format(directory))
            case 1:
                words[at] = source.choice(POOL).format(directory)
            case 2:
                words[at : at + 1] = [] if len(words) > 1 else words
            case 3:
                words.insert(at, words[at])
            case 4:
                other = source.choice(LINES)
                words[at:] = other[source.randrange(len(other)) :]
            case _:
                words[at] = words[at][: 1 + source.randrange(len(words[at]) or 1)]
    return tuple(words)


#: Runs each argv of its input, some at a time; what does not end by itself is ended.
_DRIVER: Final = """
import json, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

def run(argv):
    none = subprocess.DEVNULL
    try:
        subprocess.run(argv, stdin=none, stdout=none, stderr=none, timeout=0.5)
    except subprocess.TimeoutExpired:
        pass

with ThreadPoolExecutor(8) as pool:
    list(pool.map(run, json.load(sys.stdin)))
"""
_TRACED: Final = "execve,execveat,open,openat,openat2,bpf,chdir,chroot"
_CALL: Final = re.compile(r"(\d+) +(\w+)\((.*)")


def traced(all_words: Iterable[Words], directory: Path) -> list[tuple[Words, str]]:
    """What ip did with these words that it must not: the words and the line of strace. Raises OSError."""
    program = shutil.which("ip") or "ip"
    work = directory / "work"
    work.mkdir(exist_ok=True)
    for name in FILES:
        (work / name).write_text("#!/bin/sh\nexit 3\n")
        (work / name).chmod(0o755)
    argvs = [(program, *words) for words in all_words]
    trace = directory / "seen" / "trace"
    trace.parent.mkdir(exist_ok=True)
    strace = f"strace -f --seccomp-bpf -qq -v -s 4096 -e trace={_TRACED} -o".split()
    script = 'mount -t tmpfs none /run && mkdir /run/netns && cd "$1" && shift && exec "$@"'
    unshare = ["unshare", "-Urnmpf", "--mount-proc", "sh", "-c", script, "sh", str(work)]
    done = subprocess.run(
        [*unshare, *strace, str(trace), sys.executable, "-c", _DRIVER],
        input=json.dumps(argvs),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    if done.returncode:
        raise OSError(done.stderr)
    calls = defaultdict[str, list[str]](list)
    for line in trace.read_text("utf-8", "replace").splitlines():
        if match := _CALL.match(line):
            calls[match[1]].append(f"{match[2]}({match[3]}")
    wrong: list[tuple[Words, str]] = []
    seen = 0
    for of_one in calls.values():
        begun = [place for place, call in enumerate(of_one) if call.startswith(f'execve("{program}", [')]
        if not begun:
            # The driver, and its threads; or what ip has started.
            wrong += [((), call) for call in of_one if call.startswith("exec") and sys.executable not in call]
            continue
        seen += 1
        words = tuple(json.loads(f"[{of_one[begun[0]].partition(', [')[2].partition('], [')[0]}]")[1:])
        wrong += [(words, call) for call in of_one[begun[0] + 1 :] if _is_wrong(call, work)]
    assert seen == len(argvs), (seen, len(argvs))
    return wrong


def _is_wrong(call: str, work: Path) -> bool:
    name, _, rest = call.partition("(")
    if name.startswith("exec") or name in ("bpf", "chdir", "chroot"):
        return True
    path = re.search(r'"((?:[^"\\]|\\.)*)"', rest)
    if path is None or not path[1]:
        return False
    # What is looked up from another directory than the current one is no word: a library goes step by step.
    by_word = path[1][0] != "/" and rest.startswith("AT_FDCWD")
    return by_word or "/../" in path[1] or path[1].startswith((str(work), "/proc/self/cwd"))


def try_out(
    source: random.Random, directory: Path, count: int, judge: Callable[[Words], bool] = ip.is_harmless
) -> tuple[list[Words], list[tuple[Words, str]]]:
    """So many inputs that `judge` lets pass, and what ip did with them that it must not."""
    allowed: list[Words] = []
    while len(allowed) < count:
        words = at_random(source, directory / "work")
        if judge(words):
            allowed.append(words)
    return allowed, traced(allowed, directory)


def reached(directory: Path) -> float:
    """Percent of filters/ip.py that judging the corpus reaches: lines and branches."""
    import coverage

    measured = coverage.Coverage(branch=True, data_file=None)
    measured.start()
    # Its first lines count, too.
    module = importlib.reload(ip)
    for path in sorted((directory / "corpus").iterdir()):
        for words in json.loads(path.read_text()):
            module.is_harmless(tuple(words))
    measured.stop()
    return measured.report(include=[ip.__file__], file=io.StringIO())


def one(seconds: float, directory: Path) -> int:
    """Try for so long. Returns an exit code; what failed lies in the directory."""
    (directory / "corpus").mkdir(parents=True, exist_ok=True)
    source, count, end = random.Random(time.time_ns()), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        allowed, wrong = try_out(source, directory, 200)
        (directory / "corpus" / f"{count}.json").write_text(json.dumps(allowed))
        count += len(allowed)
        if wrong:
            (directory / f"crash-{count}").write_text(json.dumps(wrong, indent=1))
            print("\n".join(f"ip {' '.join(words)}: {call}" for words, call in wrong), file=sys.stderr)
            return 1
    print(f"stat::number_of_executed_units: {count}", file=sys.stderr)
    return 0
