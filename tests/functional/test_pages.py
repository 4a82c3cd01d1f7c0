"""Every code block of README and pages is run in the environment that it speaks of, or says here why not.

Filters that are shown are loaded by tests/unit/test_documentation.py, those of argv.rst tried by
tests/unit/filters/test_argv.py, what needs a service manager by tests/systemd/test_pages.py.
"""

import contextlib
import io
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon import config
from rootwrap_daemon.errors import CommandTimeout
from rootwrap_daemon.filters.finding import Severity
from tests.pages import PAGES, ROOT, Block, blocks
from tests.prepared import CTL
from tests.real_daemon import START, NewDaemon

ALL = [block for page in PAGES for block in blocks(page)]
#: Commands that are not run here, by how they begin, with the reason.
NOT_RUN = {
    "make demo": "tests/functional/test_examples.py and CI run it; the next lines are these very tests",
    "make test": "as above",
    "python3 -m venv": "a package index is not here; the packages have tests of their own",
    "apt-get install --no-install-recommends": "as above",
    "/opt/rootwrap-daemon/bin/pip": "as above",
    "podman": "tests/functional/test_containers.py runs what podman would",
    "kubectl": "as above",
    "examples/containers/tool-agent": "as above",
    "make bench": "takes minutes: tests/bench",
    "make native": "needs a compiler; the Makefile runs it before any test",
}
#: Pages or blocks for a host with a service manager.
OF_SYSTEMD = ("doc/source/start.rst", "doc/source/user/service.rst", "doc/source/user/upgrade.rst")
#: Blocks that are no code of this project, by how they begin, with the reason.
NO_CODE = {
    "19 errors, 3 info": "the output for a file of one release of neutron",
    "changed netns": "an output, whose parts tests/functional/test_ctl_commands.py has",
    "agent.filters:2:34": "an output, which tests/unit/filters/test_argv.py compares",
    'definition = "ArgvFilter"': "a grammar, which tests/unit/filters/test_argv.py holds the parser to",
    "[AGENT]": "neutron's configuration: tests/openstack",
    "#!/bin/sh\n# sudo for nova": "tests/functional/test_bridge.py runs it",
    "<object": "a picture, in HTML",
    "apt-get --simulate": "words for any client; tests/functional/test_recipes.py asks for each",
    "SOAK=": "takes minutes: tests/bench",
    "- repo:": "for pre-commit",
    "- run:": "for GitHub",
    "[Service]": "a drop-in for an agent's unit",
    "mkdir -p /usr/local/lib/rootwrap": "tests/functional/test_exec.py has the program under this name",
    "/var/log/rootwrap-daemon/*.jsonl": "for logrotate: tests/functional/test_audit.py rotates by it",
    "journalctl": "asks the journal: tests/systemd/test_observe.py and the tests of suggest do",
}
#: How a host is furnished before the commands of a page run: all is gone with its mount namespace.
FURNISH = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs /mnt
for d in etc usr var; do
    mkdir /mnt/$d.upper /mnt/$d.work
    mount -t overlay overlay -o lowerdir=/$d,upperdir=/mnt/$d.upper,workdir=/mnt/$d.work /$d
done
mount -t tmpfs -o mode=0755 tmpfs /run
printf '#!/bin/sh\nexec "%s" "$@"\n' "$PYTHON" > /usr/local/bin/python3
printf '#!/bin/sh\nexec python3 -m rootwrap_daemon.cli.ctl "$@"\n' > /usr/local/bin/rootwrapctl
chmod 755 /usr/local/bin/python3 /usr/local/bin/rootwrapctl
echo 'neutron:x:61001:61001::/:/bin/false' >> /etc/passwd
echo 'zabbix:x:61002:61002::/:/bin/false' >> /etc/passwd
mkdir -p /etc/neutron/rootwrap.d /etc/nova/rootwrap.d /etc/rootwrap-daemon/neutron.filters.d \
    /etc/rootwrap-daemon/backup.filters.d /var/log/rootwrap-daemon /etc/sudoers.d \
    /usr/share/zsh/site-functions /usr/share/bash-completion/completions /mnt/work
cat > /etc/neutron/rootwrap.d/l3.filters <<'END'
[Filters]
ip: IpFilter, ip, root
ip_exec: IpNetnsExecFilter, ip, root
radvd: CommandFilter, radvd, root
kill: CommandFilter, kill, root
END
printf '[DEFAULT]\nfilters_path = /etc/neutron/rootwrap.d\nallowed_users = neutron\n' \
    > /etc/neutron/rootwrap.conf
cp /etc/neutron/rootwrap.d/l3.filters /etc/nova/rootwrap.d/
printf '[DEFAULT]\nfilters_path = /etc/rootwrap-daemon/neutron.filters.d\nallowed_users = neutron\n' \
    > /etc/rootwrap-daemon/neutron.conf
cp "$SHIPPED" /etc/rootwrap-daemon/neutron.filters.d/
mkdir /run/rootwrap-daemon
cat > /var/log/rootwrap-daemon/audit.jsonl <<'END'
{"time": "2026-11-01T00:00:00+00:00", "event": "run", "id": "a", "argv": ["ip", "link"], "filter": "ip"}
END
echo 'zabbix ALL=(root) NOPASSWD: /usr/bin/id -u' > /etc/sudoers.d/zabbix
cd /mnt/work
mkdir -p policy-tests new/rootwrap.d etc/neutron
cp -r /etc/neutron/rootwrap.d etc/neutron/
cp "$SHIPPED" new/rootwrap.d/agent.filters
cp /var/log/rootwrap-daemon/audit.jsonl .
printf 'filters: [/etc/neutron/rootwrap.d]\ntests:\n  - {argv: [ip, link], expect: allow}\n' \
    | tee policy-tests/neutron.yaml policy.yaml > neutron.yaml
exec sh -c "$SCRIPT"
"""
#: What else a page takes for granted.
PREPARED = {
    "doc/source/denied.rst": """\
mv /etc/rootwrap-daemon/neutron.conf /etc/rootwrap-daemon/netagent.conf
echo 'audit_file = /mnt/work/audit.jsonl' >> /etc/rootwrap-daemon/netagent.conf
cat >> audit.jsonl <<'END'
{"time": "2026-11-01T00:00:00+00:00", "event": "denied", "id": "a9876218-1", "code": "denied", "argv": ["ip"]}
END
"""
}
#: The answers of commands that judge; everybody else's is 0.
JUDGES = re.compile(r"(sudo )?rootwrapctl (check|diff|explain|list|test)\b")


UNTIL_IT_LISTENS = """{} & pid=$!
until [ -S /run/rootwrap-daemon/rootwrap-daemon.sock ] || ! kill -0 $pid; do sleep 0.1; done
kill $pid; wait $pid"""


def reason(text: str, table: dict[str, str]) -> str | None:
    return next((why for start, why in table.items() if text.startswith(start)), None)


def of_systemd(block: Block) -> bool:
    return block.page in OF_SYSTEMD or "systemctl" in block.text or "netagent.filters.d" in block.text


def written_file(block: Block) -> str | None:
    """The name of the file that a block is, as its first line says."""
    found = re.fullmatch(r"# ([a-z]+\.yaml)", block.first)
    return found[1] if found else None


def run_page(page: str) -> list[tuple[str, int, str]]:
    """Run its commands one after the other: each with its exit code and what it printed."""
    steps: list[str] = []
    script = [PREPARED.get(page, "")]
    for block in (one for one in ALL if one.page == page):
        if shown(block) == "configuration":
            script.insert(0, f"cat > /etc/rootwrap-daemon/rootwrap-daemon.conf <<'END'\n{block.text}\nEND")
        if name := written_file(block):
            script.append(f"cat > {name} <<'END'\n{block.text}\nEND")
        for command in block.commands if not of_systemd(block) else ():
            if reason(command, NOT_RUN) or command.startswith("rootwrap-exec --socket"):
                continue
            number = len(steps)
            if command.rstrip().endswith("rootwrap-daemon.conf"):
                # The daemon itself: until it listens.
                command = UNTIL_IT_LISTENS.format(command)
            script.append(f"( {command}\n) > out 2>&1; code=$?; echo @@{number} $code; cat out")
            steps.append(command)
    environ = {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHON": sys.executable,
        "SHIPPED": str(ROOT / "etc/rootwrap-daemon/filters.d/netns-agent.filters"),
        "SCRIPT": "\n".join(script),
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", FURNISH],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    parts = re.split(r"^@@(\d+) (\d+)\n", done.stdout, flags=re.MULTILINE)
    found = [
        (steps[int(number)], int(code), out)
        for number, code, out in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    ]
    assert len(found) == len(steps), done.stderr
    return found


def shown(block: Block) -> str:
    """What it is that a test does with a block; empty for nothing."""
    if block.commands:
        return "" if all(reason(one, NOT_RUN) for one in block.commands) else "commands"
    if block.text.startswith("[Filters]") or re.search(
        r"^\s*[\w-]+\s*[:=]\s*\w+Filter, ", block.text, re.MULTILINE
    ):
        return "filters"
    if block.language == "python" or block.text.startswith(("async with", "import ")):
        return "python"
    if written_file(block) or block.text.startswith("filters: ["):
        return "policy tests"
    if block.text.startswith("[DEFAULT]"):
        return "configuration"
    if (block.page, block.first) in OUTPUTS:
        return "output"
    if block.page == "doc/source/reference/protocol.rst":
        return "bytes, which tests/unit/protocol/test_messages.py compares"
    return ""


#: Blocks that are what the command before them prints, on a host as above.
OUTPUTS = {
    ("doc/source/user/explain.rst", "denied: no filter allows these words"),
    ("doc/source/user/policy-tests.rst", "FAIL  agent.yaml:7  a namespace of somebody else"),
}


def test_every_block_is_run_or_has_a_reason() -> None:
    nothing = [
        block.place
        for block in ALL
        if not shown(block)
        and not reason(block.text, NO_CODE)
        and not (block.commands and all(reason(one, NOT_RUN) for one in block.commands))
    ]
    assert not nothing
    # Reasons are few, and each is one of a block that there is.
    assert len(NOT_RUN) + len(NO_CODE) <= 25
    texts = [text for block in ALL for text in (block.text, *block.commands)]
    assert not [
        start for start in {**NOT_RUN, **NO_CODE} if not any(text.startswith(start) for text in texts)
    ]


@pytest.mark.root
@pytest.mark.parametrize(
    "page", sorted({block.page for block in ALL if block.commands and not of_systemd(block)})
)
def test_commands(page: str) -> None:
    for command, code, out in run_page(page):
        if "cannot stand in a unit" in out and " " in sys.executable:
            # Said of this checkout, in a directory with a space in its name.
            continue
        good = (0, 1) if JUDGES.match(command) else (0,)
        assert code in good, (command, code, out)
        assert "Traceback" not in out, (command, out)


@pytest.mark.root
def test_the_explanation_that_is_shown() -> None:
    (page, first), _ = sorted(OUTPUTS)
    (block,) = (one for one in ALL if (one.page, one.first) == (page, first))
    ((command, code, out),) = run_page(page)
    assert (command, code) == ("rootwrapctl explain ip netns delete other", 1)
    place = re.compile(r"/etc/\S+filters(:\d+)?")
    told = [place.sub("", line).rstrip() for line in out.splitlines()]
    for line in block.text.splitlines():
        assert place.sub("", line).rstrip() in told, (line, out)


def rootwrapctl(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return CTL.run(*words, cwd=cwd)


@pytest.mark.root
def test_policy_tests_that_are_shown(tmp_path: Path) -> None:
    """The first one fails as it says, the other passes."""
    every = [one for one in ALL if one.page == "doc/source/user/policy-tests.rst"]
    first, output, other = (
        next(one for one in every if one.text.startswith(start))
        for start in ("# agent", "FAIL", "filters: [")
    )
    tmp_path.chmod(0o755)
    for name in ("etc", "tests"):
        (tmp_path / name).mkdir()
    (tmp_path / "etc/agent.filters").write_text(
        "[Filters]\nnetns: ArgvFilter, ip, root, netns, {=add|delete}, {netns}\n"
    )
    (tmp_path / "tests/agent.yaml").write_text(first.text + "\n")
    done = rootwrapctl("test", "agent.yaml", cwd=tmp_path / "tests")
    assert done.returncode == 1
    for line in output.text.splitlines():
        assert line.rstrip() in [text.rstrip() for text in done.stdout.splitlines()], (line, done.stdout)
    (tmp_path / "tests/nova.filters").write_text(
        "[Filters]\nowner: ArgvFilter, chown, root, nova, {path=/var/lib/nova/images}\n"
    )
    (tmp_path / "tests/nova.yaml").write_text(other.text + "\n")
    done = rootwrapctl("test", "nova.yaml", cwd=tmp_path / "tests")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "block", [one for one in ALL if shown(one) == "configuration"], ids=lambda one: str(one.place)
)
def test_configurations(block: Block) -> None:
    findings = config.look_at(block.text + "\n", "x.conf").findings
    assert not [one for one in findings if one.severity is Severity.ERROR]


FILTERS = """\
[Filters]
list: ArgvFilter, ip, root, [-j], netns, list
monitor: RegExpFilter, ip, root, ip, monitor, link
monitor_o: RegExpFilter, ip, root, ip, -o, monitor, link
[monitor]
timeout = 1
[monitor_o]
timeout = 1
"""


OWN_DAEMON = [one for one in ALL if "/opt/agent/" in one.text or "id: ArgvFilter, id, root, -u" in one.text]


@pytest.fixture
def own_directory() -> Iterator[Path]:
    """One that other users can enter."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.mark.root
@pytest.mark.parametrize("user", ["root", "root of a namespace", "itself"])
def test_a_daemon_of_ones_own(user: str, own_directory: Path) -> None:
    """Configuration, filters and code of the page, and what the text says of a plain user.

    That user is in few other tests: the kernel bounds the descriptors that all processes of a user have under
    way, on the whole host.
    """
    plain = pwd.getpwnam("bin")
    conf, filters, code = (block.text.replace("/opt/agent", str(own_directory)) for block in OWN_DAEMON)
    prefix, start = (
        ["setpriv", f"--reuid={plain.pw_uid}", f"--regid={plain.pw_gid}", "--clear-groups"],
        "[START",
    )
    if user == "root":
        prefix = []
    elif user == "itself":
        conf, filters = conf.replace("= root", "= bin"), filters.replace("root", "bin")
    else:
        conf += "\ntrusted_owners = root, 65534"
        start = '["unshare", "--user", "--map-root-user", START'
    (own_directory / "filters.d").mkdir()
    (own_directory / "dev.conf").write_text(conf + "\n")
    (own_directory / "filters.d/dev.filters").write_text(filters + "\n")
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", str(own_directory)], check=True)
    code = code.replace('["rootwrap-daemon"', start).replace("START", "*sys.argv[1:]", 1)
    done = subprocess.run(
        [*prefix, sys.executable, "-c", f"import sys\n{code}", *START],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.stdout.split() == [str(plain.pw_uid) if user == "itself" else "0"], done.stderr


@pytest.mark.root
@pytest.mark.parametrize(
    "block",
    [one for one in ALL if shown(one) == "python" and one not in OWN_DAEMON],
    ids=lambda one: str(one.place),
)
def test_python(block: Block, new_daemon: NewDaemon) -> None:
    """With a client where the block has one already; what has no end is ended by its filter."""
    daemon = new_daemon(FILTERS)
    text = re.sub(r"/run/rootwrap-daemon/[a-z-]+\.sock", daemon.socket, block.text)
    assert "import" in text or "client" in text
    script = ["from rootwrap_daemon.client import PIPE, Client", f"SOCKET = {daemon.socket!r}"]
    if text.startswith("async"):
        script += [
            "import asyncio\nfrom rootwrap_daemon.client.aio import AsyncClient\nasync def main():",
            "    async with AsyncClient(SOCKET) as client:",
            textwrap.indent(text, "        "),
            "asyncio.run(main())",
        ]
    else:
        script += ["client = Client(SOCKET)", text]
    out = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(out), contextlib.suppress(CommandTimeout):
        exec("\n".join(script), names)
    if "except Denied" in text:
        assert "no filter allows this command" in out.getvalue()
    # Tests of an agent, as pytest would call them.
    for name in [name for name in names if name.startswith("test_")]:
        names[name]()
    if "client" in names:
        names["client"].close()


def test_the_example_of_exec(daemon: Any) -> None:
    """The manual page of rootwrap-exec has one command."""
    (block,) = (one for one in ALL if one.page == "doc/source/man/rootwrap-exec.rst" and one.commands)
    (command,) = block.commands
    words = command.replace("/run/rootwrap-daemon/neutron.sock", daemon.socket).split()
    assert words[:3] == ["rootwrap-exec", "--socket", daemon.socket]
    code = "import sys; from rootwrap_daemon.cli.exec.main import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, *words[1:3], "true"]
    assert subprocess.run(argv, env=os.environ, check=False).returncode == 0
    assert json.dumps(words[3:]) == '["ip", "netns", "list"]'
