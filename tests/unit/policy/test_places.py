"""policy/places.py: where a path enters a place of others, and what a word beneath a base names."""

import errno
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootwrap_daemon.policy import host, places
from rootwrap_daemon.policy.host import Seen, UntrustedPath
from tests.unit.policy.things import OWNERS, STRANGER, directory, file, link

#: Trusts nothing that there is: every directory is a place.
NO_OWNERS = frozenset({4000000000})
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A base with links in and out of it, neighbours of similar names, and places of others."""
    base = directory(tmp_path / "base")
    file(base / "a", "a")
    file(directory(base / "sub") / "b", "b")
    file(tmp_path / "outside", "o")
    file(directory(tmp_path / "base-evil") / "x")
    directory(base / "open", 0o777)
    directory(base / "open/deep")
    file(directory(base / "sticky", 0o1777) / "mine")
    link(base / "sticky/link", "../sub")
    link(directory(base / "sticky/ours") / "link", "../../sub")
    for name, target in {
        "in": "sub/b",
        "in_dir": "sub",
        "in_up": "sub/../a",
        "to_open": "open",
        "to_sticky": "sticky",
        "dangling": "new",
        "out": "/etc/passwd",
        "out_up": "../outside",
        "out_dir": "/etc",
        "out_new": "../new",
        "loop": "loop",
    }.items():
        link(base / name, target)
    link(tmp_path / "alias", "base")
    return tmp_path


def walk(path: str, owners: frozenset[int] = OWNERS, limit: str | None = None) -> places.Walked:
    return places.walk(path, owners, Seen(), limit)


@pytest.mark.parametrize(
    ("path", "real", "place"),
    [
        ("base/a", "base/a", None),
        ("base//./sub/../in", "base/sub/b", None),
        ("alias/sub", "base/sub", None),
        ("base/missing/x", "base/missing/x", None),
        ("base/a/x", "base/a/x", None),
        ("base/open", "base/open", "base/open"),
        ("base/open/x/./y", "base/open/x/y", "base/open"),
        ("alias/to_open/deep/x", "base/open/deep/x", "base/open"),
        ("base/sticky", "base/sticky", "base/sticky"),
        # What pytest makes is private: whose an entry there is makes no difference.
        ("base/sticky/mine", "base/sticky/mine", "base/sticky"),
        ("base/sticky/link/b", "base/sticky/link/b", "base/sticky"),
        ("base/sticky/ours/link/b", "base/sticky/ours/link/b", "base/sticky"),
        ("base/to_sticky/ours/x", "base/sticky/ours/x", "base/sticky"),
        ("base/sticky/new", "base/sticky/new", "base/sticky"),
        ("base/sticky/new/x", "base/sticky/new/x", "base/sticky"),
    ],
)
def test_walk(tree: Path, path: str, real: str, place: str | None) -> None:
    found = walk(f"{tree}/{path}")
    assert (found.path, found.place) == (f"{tree}/{real}", place and f"{tree}/{place}")
    assert (found.status is None) == (not os.path.lexists(f"{tree}/{real}") or place not in (None, real))


@pytest.mark.root
@pytest.mark.parametrize(
    ("path", "place"),
    [("his/x", "his"), ("his", "his"), ("his_link", "."), ("sticky/his", "sticky"), ("his_file", None)],
)
def test_what_a_stranger_owns_is_a_place(tmp_path: Path, path: str, place: str | None) -> None:
    directory(tmp_path / "his", owner=STRANGER)
    link(tmp_path / "his_link", "/etc/passwd", owner=STRANGER)
    file(directory(tmp_path / "sticky", 0o1777) / "his", owner=STRANGER)
    # Nobody can put another file in its place.
    file(tmp_path / "his_file", owner=STRANGER)
    expected = None if place is None else os.path.normpath(tmp_path / place)
    assert walk(f"{tmp_path}/{path}").place == expected


@pytest.mark.parametrize(
    "path", ["base/open/..", "base/open/x/../y", "base/sticky/new/..", "base/to_open/../a"]
)
def test_walk_raises(tree: Path, path: str) -> None:
    with pytest.raises(UntrustedPath):
        walk(f"{tree}/{path}")


def test_nothing_is_told_of_a_directory_in_which_not_everybody_may_look(tree: Path) -> None:
    """Whatever is there: the same for a file, a directory, a loop of links and nothing."""
    private = directory(tree / "private", 0o700)
    file(private / "file")
    directory(private / "sub")
    link(private / "loop", "loop")
    for name in ("file", "sub", "loop", "missing"):
        assert walk(f"{private}/{name}/x").place is None
        with pytest.raises(UntrustedPath, match="may look"):
            walk(f"{private}/{name}/../../base/open")


def test_walk_from_the_root() -> None:
    assert walk("/").path == walk("/..").path == walk("").path == "/"
    with pytest.raises(UntrustedPath, match=r"what is in /$"):
        walk("/etc/x", NO_OWNERS)
    assert walk("/proc/self/net/dev").path == "/proc/self/net/dev"


def test_no_link_leads_out_of_the_limit(tree: Path) -> None:
    base = f"{tree}/base"
    for name in ("out", "out_up", "out_dir", "out_new", "out_dir/passwd"):
        with pytest.raises(UntrustedPath, match="leads out of"):
            walk(f"{base}/{name}", limit=base)
    assert walk(f"{base}/in_up", limit=base).path == f"{base}/a"


_PARTS = st.lists(
    st.sampled_from(
        [
            "sub",
            "a",
            "b",
            "in",
            "in_dir",
            "in_up",
            "missing",
            ".",
            "..",
            "",
            "loop",
            "sticky",
            "mine",
            "dangling",
        ]
    ),
    max_size=8,
)


@given(parts=_PARTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_walk_as_the_kernel(tree: Path, parts: list[str]) -> None:
    """What is found is what the kernel finds; where it finds nothing, neither is anything found here."""
    path = f"{tree}/base/{'/'.join(parts)}"
    try:
        found = walk(path)
    except UntrustedPath:
        # The directories above are those of pytest, which nobody else may search.
        assert "sticky" in parts or ".." in parts
        return
    try:
        status = os.stat(path)
    except OSError:
        # A file may be followed by a slash here: the command gets to know.
        assert found.status is None or path.endswith(("/", "/."))
    else:
        assert found.status is not None
        assert os.path.samestat(found.status, status)


# beneath


def beneath(base: str, word: str, owners: frozenset[int] = OWNERS) -> tuple[str, str | None]:
    return places.beneath(base, word, owners, Seen())


INSIDE = {
    "{base}": "",
    "{base}/": "/",
    "{base}//a": "/a",
    "{base}/./a": "/a",
    "{base}/sub": "/sub",
    "{base}/sub/": "/sub/",
    "{base}/sub/.": "/sub/",
    "{base}/new": "/new",
    "{base}/no/such": "/no/such",
    "{base}/sub/é\udcff": "/sub/é\udcff",
    # The link itself: a command that removes or renames acts on it, another follows it to what is beneath.
    "{base}/in": "/in",
    "{base}/in_up": "/in_up",
    "{base}/dangling": "/dangling",
    "{base}/in_dir": "/in_dir",
    "{base}/in_dir/": "/sub/",
    "{base}/in_dir/b": "/sub/b",
    "{base}/sub/../a": "/a",
    "{base}/sub/..": "/",
    "{base}/in_dir/../a": "/a",
}


@pytest.mark.parametrize("base", ["base", "alias"])
@pytest.mark.parametrize(("word", "rest"), INSIDE.items())
def test_beneath(tree: Path, base: str, word: str, rest: str) -> None:
    # By the base's own name, and by its real one.
    for name in {base, "base"}:
        assert beneath(f"{tree}/{base}", word.format(base=tree / name)) == (f"{tree}/base{rest}", None)


OUTSIDE = [
    *("{base}x", "{base}-evil/x", "{base}/../outside", "{base}/..", "{top}", "/", "", "/etc/passwd"),
    *(
        "{base}/../base/a",
        "{base}/" + "d/" * 3000,
        "{top}/sub/../base/a",
        "/proc/self/root{base}/a",
        "{base}/sub/../../outside",
    ),
]


@pytest.mark.parametrize("word", OUTSIDE)
@pytest.mark.parametrize("owners", [OWNERS, NO_OWNERS], ids=["trusted", "place"])
def test_nothing_outside(
    tree: Path, word: str, owners: frozenset[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the host is not asked about it: nobody learns what is there."""
    asked: list[str] = []
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        asked.append(path)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    base = str(tree / "base")
    with pytest.raises(UntrustedPath):
        beneath(base, word.format(base=base, top=tree), owners)
    assert all(base.startswith(path.rstrip("/")) for path in asked)


@pytest.mark.parametrize("word", ["out", "out_up", "out_dir", "out_dir/passwd", "out_new", "loop"])
def test_no_link_leads_out(tree: Path, word: str) -> None:
    with pytest.raises(UntrustedPath):
        beneath(f"{tree}/base", f"{tree}/base/{word}")


def test_no_parent_of_a_link_leads_out(tree: Path) -> None:
    """As text it stays below: only where the link leads is its parent known."""
    base = f"{tree}/base"
    link(tree / "base/sub/up", "..")
    link(tree / "base/sly", "sub/up/../base-evil/x")
    for word in ("sly", "sub/up/../base-evil/x", "sub/up/../base/a"):
        with pytest.raises(UntrustedPath, match=r"`\.\.` leads out of"):
            beneath(base, f"{base}/{word}")
    # Whoever may not look into a directory of the base is told nothing of what is outside.
    directory(tree / "base/private", 0o700)
    assert beneath(base, f"{base}/private/../a") == (f"{base}/a", None)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.EACCES])
def test_a_link_that_cannot_be_read(tree: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It was there a moment ago."""

    def readlink(path: str) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "readlink", readlink)
    with pytest.raises(host.Unsure, match=f"base/in.: .*{os.strerror(number)}"):
        walk(f"{tree}/base/in")


def test_names_of_mounts_are_in_octal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = rb"""21 1 0:20 / / rw - ext4 a rw
22 21 0:21 / /a\040b\134\011c rw,nosuid shared:1 - tmpfs /x rw
23 22 0:22 /sub /\303\251 rw - tmpfs y rw
"""
    monkeypatch.setattr(places, "open", lambda path, mode: io.BytesIO(lines), raising=False)
    assert places.mounts() == ("/", "/a b\\\tc", "/é")


def test_mounts_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(path: str, mode: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(places, "open", opened, raising=False)
    with pytest.raises(host.Unsure, match="/proc/thread-self/mountinfo: "):
        places.mounts()


@pytest.mark.parametrize("word", ["", "/", "/x", "/out", "/sub/b", "/no/such/"])
def test_a_place_is_not_looked_into(tree: Path, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f"{tree}/base"
    (tree / "base").chmod(0o777)
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        assert not path.startswith(f"{base}/")
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    assert beneath(base, base + word) == (base + word, base)
    assert beneath(f"{tree}/alias", f"{tree}/alias{word}") == (base + word, base)


def test_a_place_below_a_base(tree: Path) -> None:
    base = f"{tree}/base"
    assert beneath(base, f"{base}/open/x") == (f"{base}/open/x", f"{base}/open")
    assert beneath(base, f"{base}/to_open") == (f"{base}/to_open", f"{base}/open")
    assert beneath(base, f"{base}/to_open/x") == (f"{base}/open/x", f"{base}/open")
    assert beneath(f"{base}/open/deep", f"{base}/open/deep/x") == (f"{base}/open/deep/x", f"{base}/open")


def test_a_base_that_is_a_file_means_this_file(tree: Path) -> None:
    link(tree / "to_a", "base/a")
    for base, real in (("base/a", "base/a"), ("to_a", "to_a"), ("alias/a", "base/a")):
        assert beneath(f"{tree}/{base}", f"{tree}/{base}") == (f"{tree}/{real}", None)
        for word in (f"{tree}/{base}/", f"{tree}/{base}/x", f"{tree}/{base}x"):
            with pytest.raises(UntrustedPath):
                beneath(f"{tree}/{base}", word)


def test_a_base_that_is_not_there(tree: Path) -> None:
    with pytest.raises(UntrustedPath, match="not there"):
        beneath(f"{tree}/missing", f"{tree}/missing/x")


def test_names_of_the_system() -> None:
    null = next(path for path in ("/dev/null",) if os.path.exists(path))
    assert beneath(null, null) == (null, None)
    assert beneath("/dev", null) == (null, None)
    assert beneath("/dev", "/dev/") == ("/dev/", None)
    assert beneath("/", "/") == ("//", None)
    assert beneath("/sys/class/net", "/sys/class/net/lo") == ("/sys/class/net/lo", None)
    assert beneath("/sys/class/net", "/sys/class/net/lo/mtu") == ("/sys/class/net/lo/mtu", None)
    for base, word in (
        ("/sys/class/net", "/sys/class/net/lo/subsystem/lo/mtu"),
        ("/dev", "/dev/fd/0"),
        ("/dev", "/dev/stdin"),
    ):
        with pytest.raises(UntrustedPath):
            beneath(base, word)
    if os.path.islink("/var/run"):
        # One that stays: others make directories there meanwhile.
        directory_of_run = next(
            path for path in ("/run/systemd", "/run/mount", "/run/lock") if os.path.isdir(path)
        )
        assert beneath(directory_of_run, f"/var{directory_of_run}/x")[0] == f"{directory_of_run}/x"
        assert beneath(f"/var{directory_of_run}", f"/var{directory_of_run}/x")[0] == f"{directory_of_run}/x"


def test_links_of_a_tree_of_the_system(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of /sys: an entry stands for what it leads to, in all of the tree."""
    monkeypatch.setattr(places, "_LINK_TREES", (str(tree),))
    base = f"{tree}/base"
    link(tree / "base/device", "../devices/one")
    file(directory(directory(tree / "devices") / "one") / "size")
    link(tree / "devices/one/out", "../two")
    directory(tree / "theirs", 0o777)
    link(tree / "base/theirs", "../theirs")
    for word in ("device", "device/size", "out_up", "device/missing"):
        assert beneath(base, f"{base}/{word}") == (f"{base}/{word}", None)
    # One that stays below the base is like any other.
    assert beneath(base, f"{base}/in_dir/b") == (f"{base}/sub/b", None)
    assert beneath(base, f"{base}/to_open/x") == (f"{base}/open/x", f"{base}/open")
    for word in ("theirs", "theirs/x", "device/out", "device/out/x", "out", "out_dir/passwd"):
        with pytest.raises(UntrustedPath, match="leads out of"):
            beneath(base, f"{base}/{word}")


@pytest.mark.root
def test_a_disk_by_another_name(tmp_path: Path) -> None:
    """As udev and device-mapper make them: a link, and the device beside its directory."""
    script = """
import os, subprocess
from pathlib import Path
from rootwrap_daemon.policy import host, places
from rootwrap_daemon.policy.host import Seen, base_owners
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", "/dev"], check=True)
os.mkdir("/dev/mapper")
os.mknod("/dev/dm-0", 0o60660, os.makedev(253, 0))
os.chown("/dev/dm-0", 0, 6)
os.symlink("../dm-0", "/dev/mapper/vg-lv")
os.symlink("/etc/passwd", "/dev/mapper/out")
for word in ("/dev/mapper/vg-lv", "/dev/mapper/out", "/dev/dm-0"):
    for base in ("/dev/mapper", word):
        try:
            print(places.beneath(base, word, base_owners(), Seen()))
        except Exception as error:
            print(type(error).__name__)
"""
    command = ["unshare", "--mount", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("needs a mount namespace")
    assert done.stdout.split("\n")[:-1] == [
        "('/dev/mapper/vg-lv', None)",
        "('/dev/mapper/vg-lv', None)",
        "UntrustedPath",
        "('/dev/mapper/out', None)",
        "UntrustedPath",
        "('/dev/dm-0', None)",
    ], done.stderr


# look_below


def test_look_below(tree: Path) -> None:
    place = f"{tree}/base/open"
    file(tree / "base/open/f")
    link(tree / "base/open/link", "/etc/passwd")
    os.mkfifo(tree / "base/open/fifo")
    for word in (
        "",
        "/",
        "/f",
        "/missing/x",
        "/link",
        "/link/x",
        "/fifo",
        "/deep/",
        "/f/x",
        "/" + "n" * 5000,
        "/\ud800",
    ):
        places.look_below(place, place + word)
    os.link(f"{place}/f", tree / "elsewhere")
    with pytest.raises(UntrustedPath, match="2 names"):
        places.look_below(place, f"{place}/f")


@pytest.mark.root
@pytest.mark.parametrize(
    "options", [["-t", "tmpfs", "none"], ["--bind", "{tree}/base/sub"]], ids=["tmpfs", "bind"]
)
def test_no_mount_below_a_place_is_crossed(tree: Path, options: list[str]) -> None:
    mount = ["mount", *(option.format(tree=tree) for option in options), f"{tree}/base/open/deep"]
    script = f"""
import subprocess
from rootwrap_daemon.policy import host, places
subprocess.run({mount!r}, check=True)
place = {str(tree / "base/open")!r}
places.look_below(place, place)
places.look_below(place, place + "/x")
for path in ("/deep", "/deep/x", "/deep/b"):
    try:
        places.look_below(place, place + path)
    except host.UntrustedPath:
        print("refused")
"""
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a mount namespace")
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["refused"] * 3


@pytest.mark.root
@pytest.mark.parametrize("served", [True, False], ids=["EACCES", "ENOTCONN"])
def test_what_only_others_see_is_theirs(tree: Path, served: bool) -> None:
    """An agent's FUSE mount over its own directory hides from root what comes back with the next umount."""
    script = f"""
import ctypes, os
from rootwrap_daemon.policy import host, places
from rootwrap_daemon.policy.host import Seen, UntrustedPath, base_owners
try:
    device = os.open("/dev/fuse", os.O_RDWR)
except OSError:
    raise SystemExit(77)
options = f"fd={{device}},rootmode=40000,user_id={STRANGER},group_id={STRANGER}".encode()
place = {str(tree / "base/open")!r}
if ctypes.CDLL(None, use_errno=True).mount(b"x", place.encode(), b"fuse", 0, options):
    raise SystemExit(77)
if not {served}:
    os.close(device)
walked = places.walk(place + "/link", base_owners(), Seen())
print(walked.place)
try:
    places.look_below(walked.place, walked.path)
except UntrustedPath:
    print("refused")
"""
    command = ["unshare", "--mount", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("needs a mount namespace and /dev/fuse")
    assert done.stdout.split() == [str(tree / "base"), "refused"], done.stderr


@pytest.mark.root
def test_a_place_that_only_its_user_can_reach(tree: Path) -> None:
    """A daemon without CAP_DAC_READ_SEARCH gets less far than the command that it starts."""
    home = directory(tree / "home", 0o700, owner=STRANGER)
    directory(home / "shared", 0o777)
    script = f"""
import errno
import os
from rootwrap_daemon.policy import host, places
from rootwrap_daemon.policy.host import Seen
print(places.walk({str(home / "shared/x")!r}, frozenset((0, {STRANGER})), Seen()).place)
"""
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(home)]


@pytest.mark.root
def test_what_is_private_outside_of_a_user_namespace() -> None:
    """Nobody in it can be its user: a command gets no further than this process."""
    with tempfile.TemporaryDirectory() as above:
        # Those of pytest are private themselves.
        os.chmod(above, 0o755)
        private = directory(Path(above) / "private", 0o700, owner=STRANGER)
        script = f"""
from rootwrap_daemon.policy import host, places
from rootwrap_daemon.policy.host import Seen, base_owners
print(places.walk({str(private / "x")!r}, base_owners(), Seen()).place)
"""
        command = ["setpriv", "--reuid=61112", "--clear-groups", "unshare", "--user", "--map-root-user"]
        command += [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip("needs a user namespace")
    assert done.stdout.split() == ["None"], done.stderr


@pytest.mark.root
def test_a_directory_of_whom_a_user_namespace_does_not_see(tmp_path: Path) -> None:
    """Its root reads `root` of other words as a relative path; nothing of its can look into /root."""
    script = (
        "import ctypes, os, sys\n"
        "from rootwrap_daemon.policy import host, places\n"
        f"os.setgroups([]); os.setresgid(*[{STRANGER}] * 3); os.setresuid(*[{STRANGER}] * 3)\n"
        "assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER\n"
        "print(places.walk(sys.argv[1], host.base_owners(), host.Seen()).place)"
    )
    private = directory(tmp_path / "private", 0o700)
    python = [sys.executable, "-c", script, f"{private}/x"]
    done = subprocess.run(python, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


@pytest.mark.parametrize(("mode", "differs"), [(0o755, True), (0o711, True), (0o700, False), (0o750, False)])
def test_one_answer_in_a_sticky_directory_where_not_everybody_may_look(mode: int, differs: bool) -> None:
    """A program of which nothing is known is refused below a place: that would tell which files are there."""
    with tempfile.TemporaryDirectory() as top:
        sticky = f"{top}/sticky"
        os.mkdir(sticky)
        os.chmod(sticky, 0o1777)
        Path(sticky, "there").touch()
        os.chmod(top, mode)
        assert walk(f"{sticky}/missing").place == sticky
        assert (walk(f"{sticky}/there").place is None) == differs


@pytest.mark.parametrize(
    ("number", "mode", "is_unmapped", "is_place"),
    [
        (errno.EACCES, 0o700, True, False),
        (errno.EACCES, 0o700, False, True),
        (errno.EACCES, 0o710, True, True),
        (errno.EACCES, 0o701, True, True),
        (errno.ENOTCONN, 0o700, True, True),
        (errno.ENOTCONN, 0o700, False, True),
    ],
)
def test_a_directory_that_lets_this_process_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, mode: int, is_unmapped: bool, is_place: bool
) -> None:
    """Nobody gets into that of a user outside this namespace; of any other, others may say what is there."""
    closed = directory(tmp_path / "closed", mode)
    look = Seen.look

    def looked(seen: Seen, path: str) -> os.stat_result:
        if path == f"{closed}/x":
            raise OSError(number, os.strerror(number), path)
        return look(seen, path)

    monkeypatch.setattr(Seen, "look", looked)
    monkeypatch.setattr(host, "unmapped_uid", lambda: os.geteuid() if is_unmapped else None)
    found = walk(f"{closed}/x/y")
    assert found == places.Walked(f"{closed}/x/y", str(closed) if is_place else None, None)


@pytest.mark.parametrize(("links", "found"), [(1, True), (40, True), (41, False)])
def test_as_many_links_are_followed_as_by_the_kernel(tmp_path: Path, links: int, found: bool) -> None:
    top = directory(tmp_path / "top")
    file(top / "l0")
    for number in range(links):
        link(top / f"l{number + 1}", f"l{number}")
    last = f"{top}/l{links}"
    assert os.path.exists(last) is found
    walked = walk(last)
    assert (walked.status is not None, walked.place) == (found, None)
    if found:
        assert walked.path == walk(last, limit=str(top)).path == f"{top}/l0"
    else:
        with pytest.raises(UntrustedPath, match="too many links"):
            walk(last, limit=str(top))
