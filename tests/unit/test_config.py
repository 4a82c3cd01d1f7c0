"""config.py: what each option takes, and that nothing but the one file is read."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oslo_config import cfg, generator

from rootwrap_daemon import config
from rootwrap_daemon.analysis import load, subjects
from rootwrap_daemon.config_options import OPTS
from rootwrap_daemon.daemon.start.read import fit
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT.parent / "shared/corpus"
SAMPLE = ROOT / "etc/rootwrap-daemon/rootwrap-daemon.conf.sample"

Read = Callable[..., Settings]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The settings of a file with these lines."""

    def read(*lines: str) -> Settings:
        path = tmp_path / "daemon.conf"
        path.write_text("\n".join(["[DEFAULT]", *lines, ""]))
        return config.load(str(path))[0]

    return read


def test_defaults(read: Read) -> None:
    assert read() == Settings(
        filters_path=("/etc/rootwrap-daemon/filters.d",),
        exec_dirs=("/sbin", "/usr/sbin", "/bin", "/usr/bin"),
        on_finding="stop",
        socket_path="/run/rootwrap-daemon/rootwrap-daemon.sock",
        socket_mode=0o660,
        socket_group=None,
        allowed_users=("root",),
        allowed_groups=(),
        trusted_owners=("root",),
        capabilities=None,
        audit_file="",
        audit="required",
        state_dir="",
        cgroups="auto",
        status_group=None,
        daemon_timeout=600,
        rlimit_nofile=8192,
        max_connections=1024,
        max_connections_per_user=512,
        max_commands=360,
        max_commands_per_user=256,
        max_output=16 * 1024 * 1024,
        max_buffered=256 * 1024 * 1024,
        command_timeout=3600.0,
        signals=frozenset({1, 2, 9, 10, 12, 15}),
        kill_grace=5.0,
        drain_timeout=30.0,
        request_timeout=10.0,
    )


BOUNDS: dict[str, tuple[list[object], list[object]]] = {
    "on_finding": (["stop", "skip"], ["", "warn", "STOP"]),
    "audit": (["required", "best_effort"], ["", "none"]),
    "cgroups": (["auto", "off"], ["", "on"]),
    "daemon_timeout": ([0, 86400], [-1, "1.5", "ten"]),
    "rlimit_nofile": ([8192, 65536], [-2, "many"]),
    "max_connections": ([1, 65536], [0, 65537, -1]),
    "max_connections_per_user": ([1, 100000], [0]),
    "max_commands": ([1, 65536], [0, 65537]),
    "max_commands_per_user": ([1], [0, "all"]),
    "max_output": ([1, 1024**3], [0, 1024**3 + 1]),
    "max_buffered": ([1024**2, 1024**4], [1024**2 - 1, 0]),
    "command_timeout": ([0.1, 604800.0], [0.0, 604800.1, -1, "inf", "never"]),
    "kill_grace": ([0.0, 600.0], [-0.1, 600.1, "inf"]),
    "drain_timeout": ([0.0, 3600.0], [-0.1, 3600.1, "inf"]),
    "request_timeout": ([0.1, 3600.0], [0.0, 3600.1, "inf"]),
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, (good, _) in BOUNDS.items() for value in good]
)
def test_values(read: Read, option: str, value: object) -> None:
    assert getattr(read(f"{option} = {value}"), option) == value


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, (_, bad) in BOUNDS.items() for value in bad]
)
def test_values_refused(read: Read, option: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=option):
        read(f"{option} = {value}")


def test_every_option_is_tested() -> None:
    numbers = {opt.name for opt in OPTS if isinstance(opt, cfg.IntOpt | cfg.FloatOpt)}
    assert numbers <= BOUNDS.keys()


@pytest.mark.parametrize(("text", "mode"), [("0660", 0o660), ("600", 0o600), ("0", 0), ("0777", 0o777)])
def test_socket_mode(read: Read, text: str, mode: int) -> None:
    assert read(f"socket_mode = {text}").socket_mode == mode


@pytest.mark.parametrize(
    "text", ["", "0o660", "-660", "+660", "1000", "4755", "888", "rw", "6 6", "٠٦٦٠", "²"]
)
def test_socket_mode_refused(read: Read, text: str) -> None:
    with pytest.raises(ConfigurationError, match="socket_mode"):
        read(f"socket_mode = {text}")


@pytest.mark.parametrize("value", [-1, 0, 1024, 4095])
def test_rlimit_nofile_is_not_lowered(read: Read, value: int) -> None:
    assert read(f"rlimit_nofile = {value}").rlimit_nofile == 8192


@pytest.mark.parametrize(
    "option", ["filters_path", "exec_dirs", "allowed_users", "allowed_groups", "trusted_owners"]
)
@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("/a", ("/a",)),
        ("/a,/b", ("/a", "/b")),
        ("/a, /b", ("/a", "/b")),
        ("  /a  ,\t/b  ", ("/a", "/b")),
        ("/a,\n  /b", ("/a", "/b")),
        ("/a/ b", ("/a/ b",)),
        ("/a,", ("/a",)),
    ],
)
def test_lists_are_stripped(read: Read, option: str, text: str, values: tuple[str, ...]) -> None:
    assert getattr(read(f"{option} = {text}"), option) == values


@pytest.mark.parametrize("option", ["filters_path", "exec_dirs"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "./a",
        "../a",
        "/a, b",
        "/a,, /b",
        "/a/../b",
        "/a/..",
        "~/a",
        "/a:/b",
        "/a\x07",
        "/a\u200b",
        ".",
    ],
)
def test_paths_refused(read: Read, option: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        read(f"{option} = {text}")


@pytest.mark.parametrize("option", ["socket_path", "audit_file", "state_dir"])
def test_a_path_of_a_file(read: Read, option: str) -> None:
    assert getattr(read(f"{option} = /run/x/y"), option) == "/run/x/y"
    for text in ("x", "run/x", "./x", "/run/../x", "@abstract", "/x:y", "/x\x07"):
        with pytest.raises(ConfigurationError, match=option):
            read(f"{option} = {text}")


def test_the_journal_instead_of_a_file(read: Read) -> None:
    assert read("audit_file = journal", "audit = best_effort").audit_file == "journal"
    with pytest.raises(ConfigurationError, match=r"audit_file: the journal drops records.*best_effort"):
        read("audit_file = journal")
    for text in ("Journal", "journal/", "stderr"):
        with pytest.raises(ConfigurationError, match="audit_file"):
            read(f"audit_file = {text}")
    with pytest.raises(ConfigurationError, match="socket_path"):
        read("socket_path = journal")


def test_capabilities(read: Read) -> None:
    assert read("capabilities = CAP_NET_ADMIN, CAP_KILL").capabilities == ("CAP_NET_ADMIN", "CAP_KILL")
    assert read("capabilities =").capabilities == ()


# The file


@pytest.mark.parametrize(
    ("data", "what"),
    [
        pytest.param(b"max_output = 1\n", "1:1: error: an option before any section", id="no section"),
        pytest.param(b"[DEFAULT\n", "1:1: error: invalid section", id="open header"),
        pytest.param(b"[DEFAULT]\nmax_output\n", "2:1: error: no .:. or .=. found", id="no delimiter"),
        pytest.param(b"[DEFAULT]\nsocket_group = \xff\n", "2:16: error: not UTF-8", id="not UTF-8"),
        pytest.param(b"[DEFAULT]\nsocket_path = $no_such_option\n", "socket_path", id="unknown reference"),
    ],
)
def test_a_bad_file(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "daemon.conf"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=what):
        config.load(str(path))[0]


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigurationError, match=str(path)):
            config.load(str(path))


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["capabilites = CAP_NET_ADMIN"], "2:1: error: .* capabilites .*: did you mean capabilities?"),
        (["Max_Output = 7"], "did you mean max_output?"),
        (["max-output = 7"], "did you mean max_output?"),
        (["timeout = 20"], "did you mean command_timeout?"),
        (["quite_another_word = 1"], "2:1: error: there is no option quite_another_word"),
        (["[default]", "max_output = 7"], r"3:1: .* no section \[default\]: did you mean DEFAULT"),
        (["[allowed_users]", "max_output = 7"], r"3:1: error: there is no section"),
        (["[xenapi]", "max_output = 7"], "3:1: error: there is no option max_output in .*: move it to"),
        (["max_output = 7", "", "max_output = 8"], "4:1: error: max_output a second time, after line 2"),
        (["max_output = 7", "[DEFAULT]", "max_output = 7"], "max_output a second time"),
        (["log_file = /x", "  capabilities = CAP_KILL"], "3:1: error: capabilities goes on with"),
        (["debug = perhaps"], "2:1: error: debug: "),
        (["config_source = x"], "there is no option config_source"),
        (["config_dir = /x"], "there is no option config_dir"),
    ],
)
def test_what_is_not_known_is_an_error(read: Read, lines: list[str], what: str) -> None:
    """A typing error would leave a restriction out."""
    with pytest.raises(ConfigurationError, match=what) as caught:
        read(*lines)
    assert "LocationInfo" not in caught.value.message


def test_names_of_oslo_are_known(read: Read) -> None:
    others = ["default_log_levels = a=INFO", "verbose = true", "[xenapi]", "xenapi_connection_url = x"]
    assert read(*others) == read()


def test_a_terse_error_has_no_word_of_the_file(tmp_path: Path) -> None:
    """Whoever starts the daemon through sudo may not be allowed to read what root can."""
    path = tmp_path / "secret"
    for text in ("root:$6$salt$hash:19000:0:99999:7:::\n", "[DEFAULT]\npassword = hunter2\nmax_output = x\n"):
        path.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            config.load(str(path), terse=True)
        assert re.sub(r"/\S+/secret", "", caught.value.message).startswith((":1:1: ", ":2:1: "))
        assert not {"root:", "hash", "password", "hunter2"} & set(re.split(r"[ $]", caught.value.message))


#: Another value than the default of each option.
OTHERS = {
    "filters_path": "/etc/x",
    "exec_dirs": "/bin",
    "on_finding": "skip",
    "socket_path": "/run/x",
    "socket_mode": "0600",
    "socket_group": "root",
    "allowed_users": "root, nobody",
    "allowed_groups": "root",
    "trusted_owners": "root, daemon",
    "capabilities": "CAP_NET_ADMIN",
    "audit_file": "/var/log/x",
    "audit": "best_effort",
    "state_dir": "/run/state",
    "cgroups": "off",
    "status_group": "root",
    "daemon_timeout": "7",
    "rlimit_nofile": "9000",
    "max_connections": "7",
    "max_connections_per_user": "7",
    "max_commands": "7",
    "max_commands_per_user": "7",
    "max_output": "7",
    "max_buffered": "1048577",
    "command_timeout": "7",
    "signals": "TERM",
    "kill_grace": "7",
    "drain_timeout": "7",
    "request_timeout": "7",
}


@pytest.mark.parametrize("place", ["main file", "drop-in"])
@pytest.mark.parametrize("option", Settings.__dataclass_fields__)
def test_the_tools_load_what_the_daemon_loads(tmp_path: Path, option: str, place: str) -> None:
    path = tmp_path / "daemon.conf"
    for name in ("filters.d", "other.d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.filters").write_text("[Filters]\nls: CommandFilter, ls, root\n")
    # Without a filter there is nothing to judge by.
    start = "" if option == "filters_path" else f"filters_path = {tmp_path}/filters.d\n"
    line = f"{option} = {OTHERS[option]}\n".replace("/etc/x", f"{tmp_path}/other.d")
    if place == "main file":
        path.write_text(f"[DEFAULT]\n{start}{line}")
    else:
        path.write_text(f"[DEFAULT]\n{start}")
        (tmp_path / "daemon.conf.d").mkdir()
        (tmp_path / "daemon.conf.d/10-x.conf").write_text(f"[DEFAULT]\n{line}")
    loaded, _ = config.load(str(path))
    assert getattr(loaded, option) != getattr(config.default_settings(), option)
    (subject,) = subjects.gather(subjects.Wanted((), str(path)))
    assert subject.host is not None
    assert subject.host.settings == loaded
    assert load.from_config(str(path)).policy.settings == loaded


def test_the_environment_is_not_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = read("max_commands = 3")
    for name in ("MAX_OUTPUT", "MAX_COMMANDS", "FILTERS_PATH", "SYSLOG_LOG_LEVEL"):
        monkeypatch.setenv(f"OS_DEFAULT__{name}", "1")
    assert read("max_commands = 3") == plain


@pytest.mark.parametrize(
    "name",
    [
        *("rootwrap-daemon.conf", ".rootwrap-daemon/rootwrap-daemon.conf"),
        *("rootwrap-daemon.conf.d/a.conf", ".rootwrap-daemon/rootwrap-daemon.conf.d/a.conf"),
        ".rootwrap-daemon.conf.d/a.conf",
    ],
)
def test_the_home_directory_is_not_read(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain = read()
    home = tmp_path / "home"
    (home / name).parent.mkdir(parents=True)
    (home / name).write_text("[DEFAULT]\nmax_output = 1\naudit = best_effort\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.chdir(home)
    # This is what would be read otherwise, or the test shows nothing.
    if name.startswith(".rootwrap-daemon/"):
        assert str(home) in str(
            cfg.find_config_files("rootwrap-daemon") + cfg.find_config_dirs("rootwrap-daemon")
        )
    assert read() == plain


def test_arguments_of_the_process_are_not_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--max_output", "1", "--config-file", "/nonexistent"])
    assert read().max_output == 16 * 1024 * 1024


ROOTWRAP_CONF = """
# Configuration for a service's rootwrap
[DEFAULT]
filters_path=/etc/x/rootwrap.d, /usr/share/x/rootwrap
exec_dirs=/sbin,/usr/sbin,/bin,/usr/bin,/usr/local/bin
use_syslog=False
syslog_log_facility=syslog
syslog_log_level=ERROR
daemon_timeout=600
rlimit_nofile=8192

[xenapi]
xenapi_connection_url=<None>
"""


def test_a_rootwrap_conf(tmp_path: Path) -> None:
    path = tmp_path / "rootwrap.conf"
    path.write_text(ROOTWRAP_CONF)
    found, conf = config.load(str(path))
    assert found.filters_path == ("/etc/x/rootwrap.d", "/usr/share/x/rootwrap")
    assert found.exec_dirs[-1] == "/usr/local/bin"
    assert (found.daemon_timeout, found.rlimit_nofile) == (600, 8192)
    assert (conf.syslog_log_level, conf.use_syslog, conf.syslog_log_facility) == ("ERROR", False, "syslog")


def test_real_files_of_rootwrap() -> None:
    paths = sorted(CORPUS.glob("*/*rootwrap.conf@*"))
    if not paths:
        pytest.skip("../shared/corpus is not here")
    refused = {}
    for path in paths:
        try:
            config.load(str(path))[0]
        except ConfigurationError as error:
            refused[path.name] = error.message.removeprefix(str(path))
    assert len(paths) > 30
    # A placeholder to fill in, and a path relative to the current directory.
    assert sorted(refused.values()) == [
        f":{where}: error: filters_path: {path!r} is not an absolute path without `..`: write one"
        for where, path in (("2:1", "filters.d"), ("7:1", "CINDER_PREFIX/etc/cinder/rootwrap.d"))
    ]


def test_list_opts() -> None:
    ((group, options),) = config.list_opts()
    assert group == "DEFAULT"
    assert {option.name for option in options} >= set(Settings.__dataclass_fields__)
    for option in options:
        assert re.fullmatch(r"[^\n]+[.)]", option.help or ""), option.name


def test_the_sample_is_current(tmp_path: Path) -> None:
    """Red: `make sample`."""
    sample = tmp_path / "sample"
    generator.main(["--namespace", "rootwrap_daemon", "--output-file", str(sample)])
    assert SAMPLE.read_text() == sample.read_text()


def test_the_sample_can_be_used(tmp_path: Path, read: Read) -> None:
    """As it is, and with every default that it shows written out."""
    path = tmp_path / "daemon.conf"
    text = SAMPLE.read_text()
    for written in (text, re.sub(r"(?m)^#(\w+ = (?!<None>))", r"\1", text)):
        path.write_text(written)
        assert config.load(str(path))[0] == read()


# fit


def _settings(connections: int, of_user: int, commands: int, commands_of_user: int) -> Settings:
    values: dict[str, object] = dict.fromkeys(Settings.__dataclass_fields__)
    values |= {
        "max_connections": connections,
        "max_connections_per_user": of_user,
        "max_commands": commands,
        "max_commands_per_user": commands_of_user,
    }
    return Settings(**values)  # type: ignore[arg-type]


def test_what_fits_stays(read: Read) -> None:
    found = read()
    assert fit(found, found.rlimit_nofile) is found


count = st.integers(8, 65536)


@given(count, count, count, count, st.integers(1024, 2**20))
@example(1024, 512, 360, 256, 1024)
@example(65536, 65536, 65536, 65536, 1024)
def test_what_does_not_fit_is_made_to(
    connections: int, of_user: int, commands: int, commands_of_user: int, nofile: int
) -> None:
    """A connection is a descriptor, a command eight (three pipes of two ends, a pidfd, one spare)."""
    before = _settings(connections, of_user, commands, commands_of_user)
    after = fit(before, nofile)
    assert after.max_connections + 8 * after.max_commands < nofile
    for name in ("max_connections", "max_connections_per_user", "max_commands", "max_commands_per_user"):
        assert 1 <= getattr(after, name) <= getattr(before, name)


def test_of_a_private_file_that_is_no_configuration_nothing_is_told(tmp_path: Path) -> None:
    """Through sudo(8) the daemon reads for somebody who may not."""
    secret = tmp_path / "shadow"
    for text in ("root:x:1\nbin:*:2\n", "a\nb\n c\n", "[keys]\nkey = x\n"):
        secret.write_text(text)
        secret.chmod(0o600)
        with pytest.raises(ConfigurationError) as error:
            config.load(str(secret))
        assert str(error.value) == (
            f"{secret}:1:1: error: this is no configuration: no option of it is known:"
            " name the configuration of the daemon"
        )
    secret.chmod(0o644)
    with pytest.raises(ConfigurationError, match="no section"):
        config.load(str(secret))
