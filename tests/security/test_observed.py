"""What rules say of ip netns attach, modprobe, tcpdump and harmless programs is what these do.

Each is looked at as it works.
"""

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rootwrap_daemon.filters import ip
from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.knowledge import named, programs
from rootwrap_daemon.lint.subject import Subject, read_filters
from rootwrap_daemon.policy.behaviour import OBEYS

pytestmark = pytest.mark.root
FREE = "RegExpFilter, tcpdump, root, tcpdump, {}"

#: Each verb with a name of its own: the inode of the namespace that it has, and at last that of the process.
ATTACH = """
mount -t tmpfs none /run && mkdir /run/netns || exit 9
unshare -n sleep 1000 & P=$!
until [ "$(readlink /proc/$P/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
for verb in "$@"; do ip netns "$verb" "n$verb" $P >&2; stat -L -c %i "/run/netns/n$verb"; done
stat -L -c %i /proc/$P/ns/net
kill $P
"""


def needed(*names: str) -> None:
    if missing := [name for name in names if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} is not installed")


def found(line: str, rule: str) -> bool:
    read = read_filters(f"[Filters]\nx: {line}\n", "x.filters")
    assert read.filters, read.findings
    return rule in {one.rule for one in judge(Subject((read,)))}


def test_which_verbs_of_ip_give_a_name_to_what_a_process_has() -> None:
    needed("ip", "unshare")
    verbs = ["a", "at", "att", "atta", "attac", "attach", "add"]
    command = ["unshare", "-n", "-m", "--propagation", "private", "sh", "-c", ATTACH, "sh", *verbs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 9:
        pytest.skip("no mount here")
    *names, process = done.stdout.split()
    attached = [verb for verb, name in zip(verbs, names, strict=True) if name == process]
    assert attached == [verb for verb in verbs if not ip.is_harmless(("netns", verb, "x", "1"))]
    assert attached == ["at", "att", "atta", "attac", "attach"]
    assert all(
        found(f"ArgvFilter, ip, root, netns, {verb}, {{netns}}, {{int}}", "RW315") for verb in attached
    )


def test_what_modprobe_executes_by_a_file(tmp_path: Path) -> None:
    """A module that nobody has, whose file says what to execute instead of a load."""
    needed("modprobe")
    (tmp_path / "modules/lib/modules" / os.uname().release).mkdir(parents=True)
    (tmp_path / "x.conf").write_text(f"install made-up /bin/touch {tmp_path}/mark\n")

    def executes(*words: str) -> bool:
        command = ["modprobe", "-d", str(tmp_path / "modules"), *words, "made-up"]
        subprocess.run(command, capture_output=True, check=False)
        marked = (tmp_path / "mark").exists()
        (tmp_path / "mark").unlink(missing_ok=True)
        return marked

    wanted = OBEYS["modprobe"].words
    for option in ("-C", "--config"):
        assert executes(option, str(tmp_path / "x.conf")) and executes(option, str(tmp_path)), option
        assert option in wanted and found(f"ArgvFilter, modprobe, root, {option}, {{path=/srv}}, x", "RW352")
    assert not executes()
    for word in named.KNOWN["modprobe"][1]:
        assert not executes(word, "-C", str(tmp_path / "x.conf")), word
        assert not found(f"ArgvFilter, modprobe, root, {word}, {{name}}", "RW317"), word
    assert found("ArgvFilter, modprobe, root, {name}", "RW317")


def sources() -> list[str]:
    """What tcpdump itself lists, in a network namespace of its own."""
    done = subprocess.run(["unshare", "-n", "tcpdump", "-D"], capture_output=True, text=True, check=True)
    return [line.partition(".")[2].split()[0] for line in done.stdout.splitlines()]


def test_which_names_of_tcpdump_are_no_devices() -> None:
    needed("tcpdump", "unshare", "ip")
    done = subprocess.run(["unshare", "-n", "ip", "-o", "link"], capture_output=True, text=True, check=True)
    devices = {line.split(": ")[1].partition("@")[0] for line in done.stdout.splitlines()}
    others = [name for name in sources() if name not in devices]
    assert "any" in others
    for name in others:
        for words in (f"-i, ({name}|eth0)", f"-i({name}|eth0)", f"--interface=({name}|eth0)"):
            assert found(FREE.format(words), "RW318"), words
    for words in ("-i, (eth0|eth1)", "-i(eth0|eth1)", "--interface=(eth0|eth1)", "-c, any[0-9]*"):
        assert not found(FREE.format(words), "RW318"), words


def test_any_is_what_each_device_gets(tmp_path: Path) -> None:
    """A packet of `lo`, which no word names."""
    needed("tcpdump", "unshare", "ip")
    sends = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"
    script = f"""
ip link set lo up; mkfifo "$1"
tcpdump -i any -c 1 -n -l --immediate-mode -Z {pwd.getpwuid(0).pw_name} 2>"$1" & P=$!
exec 3<"$1"; while read -r line <&3; do case $line in *"istening on"*) break;; esac; done
python3 -c "{sends}"; cat <&3 >/dev/null & wait $P
"""
    command = ["unshare", "-n", "sh", "-c", script, "sh", str(tmp_path / "said")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "127.0.0.1.9: UDP" in done.stdout, done


#: Each argument is a command; what prints without an end ends at its first write.
WATCH = 'for words in "$@"; do $words </dev/null >/dev/full 2>/dev/null; done; true'


def looks(program: str, path: Path, trace: Path) -> list[str]:
    """The calls of a program, with each option that its help names, that have a path of its words."""
    asked = subprocess.run(
        ["sh", "-c", '"$1" --help | head -c 100000', "sh", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    options = sorted(set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", asked.stdout + asked.stderr)))
    forms = ["{0}", "{0} {0}", "NAME_MAX {0}", "-e {0}"]
    forms += [f"{option} {{0}}" for option in options]
    forms += [option + ("=" if option.startswith("--") else "") + "{0}" for option in options]
    # By its path: a shell has some of them in itself.
    calls = [f"{shutil.which(program)} {form.format(path)}" for form in forms]
    # In a UTS namespace: hostname(1) is one of them.
    command = ["unshare", "-u", "strace", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-o", str(trace)]
    command += ["-e", "trace=%file,%network"]
    subprocess.run([*command, "sh", "-c", WATCH, "sh", *calls], check=True)
    lines = trace.read_text().splitlines()
    assert sum("execve(" in line and f'{program}"' in line for line in lines) >= len(calls)
    # An execve(2) has its words, too: there only the file counts.
    return [line for line in lines if str(path) in line.partition(", [" if "execve(" in line else "\0")[0]]


@pytest.mark.parametrize("program", sorted(programs.HARMLESS))
def test_a_harmless_program_looks_at_no_file_that_a_word_names(tmp_path: Path, program: str) -> None:
    needed(program, "strace", "unshare")
    private = tmp_path / "private"
    private.write_text("text\n")
    assert looks(program, private, tmp_path / "trace") == []


@pytest.mark.parametrize("program", ["hostname", "sync", "test", "getconf"])
def test_what_is_not_harmless_is_seen_to_look(tmp_path: Path, program: str) -> None:
    """Else the test above sees nothing."""
    needed(program, "strace", "unshare")
    (tmp_path / "private").write_text("text\n")
    assert program not in programs.HARMLESS
    assert looks(program, tmp_path / "private", tmp_path / "trace")
