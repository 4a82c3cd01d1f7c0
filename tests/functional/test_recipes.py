"""The recipes: clean under `check --strict`, tested as policies, run with the real programs that are here."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from rootwrap_daemon.cli import ctl
from rootwrap_daemon.cli.commands import recipe
from rootwrap_daemon.daemon.record.secrets import mask_words
from rootwrap_daemon.errors import Usage
from tests.prepared import CTL
from tests.real_daemon import NewDaemon

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "etc/rootwrap-daemon/recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.filters"))
#: Others to fill in than those that a recipe comes with.
OTHERS = {
    "units": {"UNITS": "a.service|b@x.service"},
    "restic": {"REPOSITORY": "/r", "PASSWORD_FILE": "/p", "TREE": "/srv"},
    "borg": {"REPOSITORY": "/r", "PASSPHRASE_FILE": "/p", "TREE": "/srv"},
    "docker": {"CONTAINERS": "one|two|three"},
    "fail2ban": {"JAILS": "sshd"},
    "haproxy": {"CONFIG": "/etc/other.cfg"},
    "keepalived": {"CONFIG": "/etc/other.conf"},
    "dnsmasq": {"CONFIG": "/etc/other.conf"},
    "postgres": {"DATABASE": "other"},
    "smart": {"DISK": "/dev/sdx", "NVME": "/dev/nvme3"},
}


def cases_of(found: recipe.Recipe) -> list[dict[str, object]]:
    tests: list[dict[str, object]] = yaml.safe_load(found.tests)["tests"]
    return tests


def test_there_are_some() -> None:
    assert recipe.names() == NAMES
    assert len(NAMES) >= 15
    assert set(OTHERS) == {name for name in NAMES if recipe.read(name).values}


def rootwrapctl(*words: object) -> str:
    """In a process of its own: it gives up root."""
    done = CTL.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_strict_and_tested(name: str) -> None:
    rootwrapctl("check", "--strict", RECIPES / f"{name}.filters")
    rootwrapctl("test", "--coverage", "--fail-on-gap", RECIPES / f"{name}.yaml")
    kinds = [str(test["expect"]) for test in cases_of(recipe.read(name))]
    refused = [kind for kind in kinds if kind in ("deny", "denied", "environment_denied")]
    assert len(refused) >= 5
    assert len(kinds) - len(refused) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_records_say_what_ran(name: str) -> None:
    """No recipe takes a secret as a word, so no word of what it allows is hidden in a record."""
    allowed = [
        tuple(map(str, test["argv"]))  # type: ignore[call-overload]
        for test in cases_of(recipe.read(name))
        if test["expect"] in ("allow", "match")
    ]
    assert allowed
    for argv in allowed:
        assert mask_words(argv, 1 << 16) == list(argv)


def test_the_page_has_calls_that_are_allowed() -> None:
    page = (ROOT / "doc/source/user/recipes.rst").read_text()
    block = page.partition("allow as they come::\n")[2].partition("\n``systemctl")[0]
    calls = [line.strip() for line in block.splitlines() if line.strip()]
    allowed = {
        " ".join(map(str, test["argv"])): name  # type: ignore[call-overload]
        for name in NAMES
        for test in cases_of(recipe.read(name))
        if test["expect"] in ("allow", "match")
    }
    assert not set(calls) - set(allowed)
    assert {allowed[call] for call in calls} == set(NAMES)


@pytest.mark.parametrize("name", OTHERS)
def test_other_values_load_and_pass(name: str, tmp_path: Path) -> None:
    found = recipe.read(name)
    assert set(found.values) == set(OTHERS[name])
    filled = [f"{key}={value}" for key, value in OTHERS[name].items()]
    filters, tests = tmp_path / "x.filters", tmp_path / "x.yaml"
    rootwrapctl("recipe", name, *filled, "--output", filters, "--tests", tests)
    for old in found.values.values():
        assert old not in filters.read_text()
    rootwrapctl("check", "--strict", filters)
    rootwrapctl("test", tests)
    # What is there is not replaced.
    assert ctl.main(["recipe", name, "--output", str(filters)]) == 78


@pytest.mark.parametrize(
    "value", ["", "a b", "a, b", "a\nb", "{any}", "-x", "a|", "|a", "[x]", "a;b", "a#b", "$(id)"]
)
def test_values_that_would_mean_something_else(value: str) -> None:
    with pytest.raises(Usage):
        recipe.read("units").filled({"UNITS": value})


def test_values_that_are_none() -> None:
    with pytest.raises(Usage, match="did you mean UNITS"):
        recipe.read("units").filled({"UNIT": "a.service"})
    with pytest.raises(Usage, match="no choice"):
        recipe.read("haproxy").filled({"CONFIG": "/a|/b"})
    assert ctl.main(["recipe", "no-such-recipe"]) == 64


@dataclass
class Real:
    """Commands of a recipe that change nothing of this machine, with their exit codes."""

    commands: list[str]
    values: dict[str, str] = field(default_factory=dict)
    before: str = ""
    codes: tuple[int, ...] = (0,)


#: {} is a directory of the test.
REAL = {
    # 1: there is no such device in a machine like this, or it is none that has a state.
    "smart": Real(["smartctl --scan -j", "nvme list -o json"], codes=(0, 1)),
    "lvm": Real([f"{name} --reportformat json --units b" for name in ("lvs", "vgs", "pvs")]),
    # 3 and 4: it does not run, there is none; 1: nobody to ask.
    "units": Real(["systemctl --no-pager is-active nginx.service"], codes=(0, 1, 3, 4)),
    "firewall": Real(["iptables-save -t filter", "ip6tables-save", "nft -j list ruleset"]),
    "wireguard": Real(["wg show interfaces"]),
    "restic": Real(
        [
            *("restic backup --json --one-file-system {}/tree", "restic snapshots --json", "restic check"),
            "restic forget --keep-daily 7 --prune",
        ],
        {"REPOSITORY": "{}/repository", "PASSWORD_FILE": "{}/password", "TREE": "{}/tree"},
        "restic --password-file {}/password -r {}/repository init",
    ),
    "borg": Real(
        [
            *("borg create --json --one-file-system ::{{hostname}}-{{now}} {}/tree", "borg list --json"),
            *("borg check", "borg prune --keep-daily 7"),
        ],
        {"REPOSITORY": "{}/repository", "PASSPHRASE_FILE": "{}/password", "TREE": "{}/tree"},
        "env BORG_PASSPHRASE=secret BORG_BASE_DIR=/var/lib/rootwrap-borg borg init -e repokey {}/repository",
    ),
    "apt": Real(["apt-get --simulate -q upgrade"]),
    # 255: no server runs here.
    "fail2ban": Real(["fail2ban-client ping"], codes=(0, 255)),
    "haproxy": Real(["haproxy -c -q -f {}/haproxy.cfg"], {"CONFIG": "{}/haproxy.cfg"}),
    "keepalived": Real(
        ["keepalived --config-test --use-file {}/keepalived.conf"], {"CONFIG": "{}/keepalived.conf"}
    ),
    "dnsmasq": Real(["dnsmasq --test --conf-file={}/dnsmasq.conf"], {"CONFIG": "{}/dnsmasq.conf"}),
    # 2: no server runs here.
    "postgres": Real(
        ["psql -X -A -t -d app -c select_pg_catalog.pg_reload_conf()", "pg_dump -Fc --no-password app"],
        codes=(0, 1, 2),
    ),
}
FILES = {
    "password": "secret\n",
    "tree/file": "content\n",
    "haproxy.cfg": "defaults\n timeout client 1s\n timeout server 1s\n timeout connect 1s\n"
    "frontend f\n bind 127.0.0.1:1\n default_backend b\nbackend b\n server s 127.0.0.1:2\n",
    "keepalived.conf": "global_defs {\n}\n",
    "dnsmasq.conf": "port=0\n",
}


@pytest.fixture
def server() -> Iterator[None]:
    """A server of PostgreSQL, of the user postgres, with a database that belongs to nobody's role."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    run = Path("/var/run/postgresql")
    if (
        not programs
        or "\npostgres:" not in Path("/etc/passwd").read_text()
        or list(run.glob(".s.PGSQL.5432"))
    ):
        pytest.skip("needs PostgreSQL installed, and none that runs")
    made = not run.exists()
    run.mkdir(exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="rootwrap-test-"))
    for path in (run, data):
        shutil.chown(path, "postgres", "postgres")

    def as_postgres(*words: object) -> None:
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        subprocess.run([*user, *map(str, words)], check=True, capture_output=True, cwd="/")

    try:
        as_postgres(programs[-1] / "initdb", "-D", data / "d", "-A", "peer", "-N")
        control = [programs[-1] / "pg_ctl", "-D", data / "d", "-w"]
        as_postgres(*control, "-l", data / "log", "-o", "-c listen_addresses=", "start")
        try:
            as_postgres("psql", "-c", "create role nobody login", "-c", "create database app owner nobody")
            yield
        finally:
            as_postgres(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(data)
        if made:
            run.rmdir()


#: What the owner of a database does to be its superuser.
EVIL = """
create schema evil;
create function evil.pg_database_size(name) returns text language plpgsql as
    $$ begin copy pg_temp.o from program 'id'; return 'evil'; end $$;
create function evil.current_database() returns name language sql as $$ select 'evil'::name $$;
create function evil.pg_reload_conf() returns text language sql as $$ select 'evil' $$;
create view evil.pg_stat_activity as select 'evil';
alter database app set search_path = evil, pg_catalog;
"""


@pytest.mark.root
@pytest.mark.usefixtures("server")
def test_the_owner_of_a_database_is_not_its_superuser(new_daemon: NewDaemon) -> None:
    found = recipe.read("postgres")
    daemon = new_daemon(found.text)
    owner = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "psql", "-d", "app"]
    subprocess.run([*owner, "-v", "ON_ERROR_STOP=1"], input=EVIL, text=True, check=True, cwd="/")
    with daemon.client() as client:
        for test in cases_of(found):
            if test["expect"] == "match":
                argv = [str(word) for word in test["argv"]]  # type: ignore[attr-defined]
                done = client.run(argv)
                assert done.returncode == 0, done
                assert argv[0] == "pg_dump" or b"evil" not in done.stdout, done


@pytest.mark.root
@pytest.mark.parametrize("name", REAL)
def test_with_the_real_programs(name: str, new_daemon: NewDaemon) -> None:
    """What it is for runs through a real daemon, which denies each attack of its tests."""
    real = REAL[name]
    daemon = new_daemon("[Filters]\n", start=False, on_finding="stop")
    for path, text in FILES.items():
        (daemon.directory / path).parent.mkdir(exist_ok=True)
        (daemon.directory / path).write_text(text)
    (daemon.directory / "password").chmod(0o600)

    def words(text: str) -> list[str]:
        found = text.format(*[daemon.directory] * text.count("{}")).split()
        return [word.replace("select_", "select ") for word in found]

    programs = {words(command)[0] for command in real.commands}
    if not all(map(shutil.which, programs)):
        pytest.skip(f"needs {', '.join(sorted(programs))}")
    if name == "postgres" and "\npostgres:" not in Path("/etc/passwd").read_text():
        pytest.skip("needs the user postgres")
    values = {key: words(value)[0] for key, value in real.values.items()}
    found = recipe.read(name).filled(values)
    if real.before:
        subprocess.run(words(real.before), check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    daemon.configure(found.text)
    daemon.start()
    with daemon.client() as client:
        for command in real.commands:
            done = client.run(words(command), timeout=120)
            assert done.returncode in real.codes, (command, done)
        for test in cases_of(found):
            if test["expect"] in ("deny", "denied", "environment_denied"):
                argv, env = [str(word) for word in test["argv"]], dict(test.get("env") or {})  # type: ignore[attr-defined, call-overload]
                assert not client.allows(argv, env=env).allowed, argv
