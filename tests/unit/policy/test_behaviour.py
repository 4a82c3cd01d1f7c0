"""policy/behaviour.py, links.py and getopt.py: what programs do with the words that they are given."""

from collections.abc import Callable

import pytest

from rootwrap_daemon.policy import behaviour, getopt
from rootwrap_daemon.policy.read import links


@pytest.mark.parametrize(
    ("says", "words", "answer"),
    [
        (links.copies_links, "/usr/bin/mv", True),
        (links.copies_links, "mv -n x", True),
        (links.copies_links, "cp -va x", True),
        (links.copies_links, "/bin/cp x a", False),
        (links.copies_links, "ls -a", False),
        (links.copies_links, "tar", False),
        (links.copies_links, "tar cf x", False),
        (links.copies_links, "tar xf", True),
        (links.copies_links, "tar x", True),
        (links.copies_links, "tar f x", False),
        (links.copies_links, "tar v -x", True),
        (links.copies_links, "tar -v x", False),
        (links.copies_links, "cp a", False),
        (links.gives_links, "chown -vR", True),
        (links.gives_links, "chmod -R", False),
        (behaviour.enters, "gdb", True),
        (behaviour.enters, "nsenter -n", False),
        (behaviour.enters, "nsenter -nm", True),
        (behaviour.enters, "mount -N 1 x", True),
        (behaviour.enters, "mount -tN x", False),
        (behaviour.enters, "made-up", True),
        (behaviour.enters, "/usr/bin/renice 5", False),
        (behaviour.finds, "find -name x", False),
        (behaviour.finds, "/usr/bin/find -execdir x", True),
        (behaviour.finds, "cat -execdir x", False),
        (behaviour.finds, f"/x/{min(behaviour.FINDS)}", True),
        (behaviour.finds, "sh -c (cd /x;/usr/bin/make)", True),
        (behaviour.finds, "sh /x/make", False),
        (behaviour.finds, "sh make", True),
        (behaviour.changes_tree, "chroot", True),
        (behaviour.changes_tree, "unshare --roo=/x", True),
        (behaviour.changes_tree, "unshare -p", False),
        (behaviour.changes_numbers, "unshare -p", True),
        (behaviour.changes_numbers, "chroot", False),
        (behaviour.goes_into, "/bin/rm -r", True),
        (behaviour.goes_into, "rm -f", False),
        (behaviour.goes_into, "made-up", True),
        (behaviour.goes_into, "find", True),
        (behaviour.goes_into, "/bin/chown -L", True),
        (behaviour.goes_into, "/bin/cat -R", False),
        (behaviour.is_led, "find", False),
        (behaviour.is_led, "/usr/bin/find -L", True),
        (behaviour.is_led, "rsync x", True),
        (behaviour.is_led, "cp -a", True),
        (behaviour.is_led, "tar c", False),
        (behaviour.is_led, "tar ch", True),
    ],
)
def test_what_a_program_does(says: Callable[[str, list[str]], bool], words: str, answer: bool) -> None:
    program, *rest = words.split()
    assert says(program, rest) is answer


def test_letters_without_a_dash_are_options() -> None:
    for program, words, read in (
        ("tar", ["xf", "a"], ["-", "-x", "-f", "a"]),
        ("bsdtar", ["x"], ["-", "-x"]),
        ("tar", ["-xf", "a"], ["-xf", "a"]),
        ("tar", [], []),
        ("cp", ["xf", "a"], ["xf", "a"]),
    ):
        assert list(behaviour._unbundled(program, words)) == read


@pytest.mark.parametrize(
    ("words", "theirs", "named", "answer"),
    [
        ("sed T", "T", "", False),
        ("sed T", "", "T", True),
        ("bash T", "T", "", True),
        ("bash T", "", "T", False),
        ("bash x T", "T", "T", False),
        ("bash -o T", "T", "", False),
        ("bash -o x T", "T", "", True),
        ("bash -xo T x", "T", "", False),
        ("bash -O T", "T", "", False),
        ("bash -c T", "T", "T", False),
        ("bash", "T", "T", False),
        ("python3.11 T", "T", "", True),
        ("/usr/bin/strings @T", "@T", "", True),
        ("strings T", "T", "", False),
        ("cat @T", "@T", "", False),
        # Compilers, linkers, java(1) and others take their words from such a file, and options are code.
        ("gcc @T -E -xc /dev/null", "@T", "", True),
        ("/usr/bin/ld @T", "@T", "", True),
        ("no-such-program -x @T", "@T", "", True),
        ("gcc @T -E -xc /dev/null", "", "", False),
        ("sha1sum -c T", "T", "", True),
        ("sha1sum -c x", "", "", False),
        ("sha1sum T", "T", "", False),
        ("/sbin/sysctl --loa T", "T", "", True),
        ("nft -f T", "T", "", True),
        ("nft -fT", "-fT", "", True),
        ("nft -f x T", "T", "", False),
        ("nft T -f x", "T", "", False),
        ("nft -fx T", "T", "", False),
        ("nft -f T", "", "T", False),
        ("nft -f", "T", "", False),
        ("cat -f T", "T", "T", False),
        ("split --filter T", "", "T", True),
        ("split --filter=T", "", "--filter=T", True),
        ("split --filter T", "T", "", False),
        ("tar -T T", "T", "", True),
        ("tar cTf T x", "T", "", True),
        # Which of the words behind the letters is whose is not read.
        ("tar cTf x T", "T", "", True),
        ("tar cf T x", "T", "", False),
        ("tar c -T T", "T", "", True),
        ("tar -cf T x", "T", "", False),
        ("tar -f x", "", "", False),
    ],
)
def test_a_program_that_does_what_a_file_says(words: str, theirs: str, named: str, answer: bool) -> None:
    program, *rest = words.split()
    found = behaviour.obeys(program, rest, frozenset(theirs.split()), frozenset(named.split()))
    assert found is answer


@pytest.mark.parametrize(
    ("words", "left", "found"),
    [
        ("x y", 0, "x y"),
        ("-a x", 0, "x"),
        ("-v x y", 0, "y"),
        ("-vx y", 0, "y"),
        ("--long x y", 0, "y"),
        ("--long=x y", 0, "y"),
        ("-- -v x", 0, "-v x"),
        ("-- -- x", 0, "-- x"),
        ("x -v y z", 1, "z"),
        ("x y", 2, ""),
        ("x -- -y", 1, "-y"),
        ("-v", 0, ""),
        ("", 0, ""),
    ],
)
def test_the_words_from_the_first_operand_on(words: str, left: int, found: str) -> None:
    assert getopt.behind(words.split(), getopt.options("-v --long"), left) == found.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["mount", "-t", "fuse", "a#/b", "/c"], [["a"], ["fuse"], ["/c"], ["-t"]]),
        (["mount", "-t", "fuse.sshfs", "/b"], [["fuse.sshfs"], ["sshfs"], ["/b"], ["-t"]]),
        (["mount", "-t", "ext4", "/b"], []),
        (["umount", "-t", "fuse", "/b"], []),
        (["tar", "-I", "xz -d", "x"], [["xz", "-d"]]),
        (["/bin/tar", "-Ixz -d", "x"], [["xz", "-d"]]),
        (["tar", "--to-command=sh -c x"], [["sh", "-c", "x"]]),
        (["tar", "--to-comm", "x", "y"], [["x"]]),
        (["tar", "x", "-I"], [[""]]),
        (["tar", "-f", "x"], []),
        (["cat", "-I", "x"], []),
    ],
)
def test_commands_of_options(words: list[str], found: list[list[str]]) -> None:
    assert sorted(behaviour.commands(words[0], words[1:])) == sorted(found)


def test_words_that_tell() -> None:
    chown = {"-R", "-h", "--recursive", "--no-dereference", "--reference"}
    assert links.telling_words("chown") == chown | {"root", "root:", "root:root", "0", "0:0"}
    assert links.telling_words("readlink") >= {"-f", "--canonicalize"}
    assert links.telling_words("sysctl") == {"-p", "--load"}
    assert links.telling_words("cat") == frozenset()


@pytest.mark.parametrize(
    ("words", "opens_paths", "why"),
    [
        ("realpath", True, "realpath resolves links itself, or changes mounts"),
        ("/bin/readlink -nf", True, "readlink resolves links itself, or changes mounts"),
        ("readlink x", False, None),
        ("ip netns add", True, "ip netns changes mounts, which would be seen in a namespace of their own"),
        ("ip ne x", False, "ip netns changes mounts, which would be seen in a namespace of their own"),
        ("ip n x", False, None),
        ("cat netns add", False, None),
        ("ip link add", False, None),
        ("cat", False, None),
        ("privsep-helper", False, None),
        ("made-up", True, None),
        ("made-up", False, "nothing is known of how made-up uses paths"),
    ],
)
def test_why_a_program_gets_no_path(words: str, opens_paths: bool, why: str | None) -> None:
    program, *rest = words.split()
    assert behaviour.problem(program, rest, opens_paths=opens_paths) == why
    # Where a path leads nowhere else, who resolves links is told nothing new by it.
    whole = None if program == "realpath" else behaviour.problem(program, [], opens_paths=opens_paths)
    assert behaviour.unknown(program, rest, opens_paths=opens_paths) == whole


def test_a_script_of_roots_uses_paths_as_it_likes() -> None:
    assert behaviour.unknown("/usr/bin/python3.11", ["x"], opens_paths=False) is None
    assert behaviour.unknown("python3", ["-c", "x"], opens_paths=False) is not None


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("-a", [("-a", None)]),
        ("-ab", [("-a", "b"), ("-b", None)]),
        ("-xb", [("-b", None)]),
        ("-vb", []),
        ("-a=b", [("-a", "=b")]),
        ("--long", [("--long", None)]),
        ("--lo=x=y", [("--long", "x=y")]),
        ("--l=", [("--long", ""), ("--less", "")]),
        ("--lon", []),
        ("--longer", []),
        ("-single", [("-single", None)]),
        ("-si", [("-single", None)]),
        ("-", []),
        ("--", []),
        ("--=a", []),
        ("", []),
        ("a", []),
        ("--ab", []),
    ],
)
def test_options_of_a_word(word: str, found: list[tuple[str, str | None]]) -> None:
    options = getopt.options("-a -b --long --less -single ; -v --lon")
    assert sorted(options.found(word), key=str) == sorted(found, key=str)
    assert options.words == {"-a", "-b", "--long", "--less", "-single"}


def test_rows_of_a_table() -> None:
    text = "\na b | x\n    y | z\nc | |\n"
    assert list(getopt.rows(text)) == [(["a", "b"], [" x y ", " z"]), (["c"], [" ", ""])]
    made = getopt.table("a b | -x --long ; -y --other\nc |\n")
    assert made["a"] == made["b"] == getopt.options("-x --long ; -y --other")
    assert made["c"] == getopt.Options(frozenset(), frozenset(), frozenset())


def test_a_whole_option_is_no_cluster() -> None:
    assert list(getopt.options("-s -e -single").found("-single")) == [("-single", None)]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("cat /x", ""),
        ("perl -I /x -w /y /z", "-I /x -w"),
        ("/usr/bin/perl5.36 -I/x -e 1 /z", "-I/x -e"),
        ("sh +x -o noglob /y -c", "+x -o noglob"),
        ("java -cp a:b -jar /y -cp c", "-cp a:b -jar"),
        ("python3 /y -I", "/y/.."),
        ("python3 -W ignore y", "-W ignore y/.."),
        ("python3 -bI /y", "-bI"),
        ("python3 -P /y", "-P"),
        ("python3 -Xdev -m y", "-Xdev -m ."),
        ("python3", "."),
        ("lua -l x /y", "-l x ."),
        ("php -f /x", "-f /x ."),
        ("x86_64-linux-gnu-g++-12 -B /x /y", "/x"),
        ("gcc -fplugin=/x /y", "/x"),
        ("dnsmasq --conf-file= --conf-dir /x", " /x"),
        ("md5sum -c /x /y", "/x /y"),
        ("md5sum /x", ""),
        ("dpkg -i /x", "/x"),
        ("dpkg -l /x", ""),
        ("insmod /x", "/x"),
        ("apt-get -y install ./x", "install ./x"),
        ("apt-get -o Dir=/x update", "Dir=/x"),
        ("mount -t ext4 /x /y", ""),
        ("mount -tfuse /x /y", "/x /y"),
        ("mount --types=ext4,fuse.z /x /y", "/x /y"),
        ("mount.fuse3 /x /y", "/x /y"),
        ("mount /x /fuse", ""),
    ],
)
def test_where_a_program_takes_code_from(words: str, named: str) -> None:
    program, *rest = words.split()
    assert list(behaviour.sources(program, rest)) == (named.split(" ") if named else [])


def test_what_a_mount_by_fuse_executes() -> None:
    found = list(behaviour.commands("mount", ["-t", "fuse.own", "a#b", "/y"]))
    assert ["own"] in found and ["a"] in found
    assert not list(behaviour.commands("mount", ["-t", "ext4", "a#b", "/y"]))


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/usr/bin/python3.11", "python"),
        ("x86_64-linux-gnu-gcc-12", "gcc"),
        ("g++", "g"),
        ("arm-linux-gnueabihf-ld", "ld"),
        ("ip6tables-restore", "ip6tables-restore"),
        ("b2sum", "b2sum"),
        ("ld-linux-x86-64.so.2", "ld-linux-x86-64.so"),
        ("[", "["),
    ],
)
def test_a_name_without_version_and_target(program: str, name: str) -> None:
    assert behaviour.plain(program) == name


def test_what_cannot_be_a_name_is_not_kept() -> None:
    """Words of a client may be the programs behind a wrapper: a thousand of them, each of 128 KiB."""
    assert behaviour.plain("a" * 255) == "a" * 255
    before = behaviour._plain.cache_info()
    assert behaviour.plain("a" * 256) == behaviour.plain("/bin/" + "a" * 100_000) == ""
    assert behaviour._plain.cache_info() == before


def test_the_parts_of_a_shells_text() -> None:
    text = "cd '/x' && (perl -I \"/y\");\nsed s/a/b/ | sh"
    found = list(behaviour.commands("bash", ["-ec", text, "z"]))
    assert [one for one in found if one != [""]] == [
        ["cd", "/x"],
        ["perl", "-I", "/y"],
        ["sed", "s/a/b/"],
        ["sh"],
    ]
    assert list(behaviour.commands("bash", ["/x", "cd /x"])) == []
