"""Programs that take commands, or whose files to write, from standard input, and with which words they do."""

from collections.abc import Sequence
from typing import Final

from rootwrap_daemon.lint.knowledge import programs
from rootwrap_daemon.policy.getopt import Options, options

#: Whatever their other words are.
_ALWAYS: Final = frozenset(
    """
    at batch bc chgpasswd chpasswd dc debconf-communicate debconf-set-selections debugfs ed ex fdisk ftp gdisk
    ldapadd ldapdelete ldapmodify mail mailx newusers nsupdate parallel sfdisk sftp sqlite3 vi view vim xargs
    """.split()
)
#: Where no word has a command or a file of them.
_CONSOLES: Final = frozenset(
    "bpftrace gdb isql lftp lldb mariadb mongo mongosh mysql osqueryi psql sqlplus vtysh".split()
)
_TEXTS: Final = frozenset("-c -e -ex -f -x --command --eval --ex --execute --file".split())
#: Where all words are options.
_BARE: Final = (
    programs.INTERPRETERS
    | frozenset(
        "R Rscript bun deno gawk guile iex ipython ipython3 irb julia mawk nodejs octave pry tsh".split()
    )
    | frozenset("birdc chronyc fs_cli ipmitool ntpq parted redis-cli varnishadm virsh wpa_cli".split())
)
#: Names of standard input as a file.
_NAMES: Final = frozenset(("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/proc/thread-self/fd/0"))
#: Where a word names it as the file that they obey.
_BY_NAME: Final = frozenset(
    "awk bridge crontab dnsmasq docker haproxy ip kubectl make nerdctl nft nginx oc podman tc".split()
)
_OF_SED: Final = options("-f --file ; -e -l")
#: What they unpack, and so where they write, with these options; None: always.
_UNPACK: Final[dict[str, Options | None]] = {
    "tar": options("-x --extract --get ; -f -C"),
    "bsdtar": options("-x --extract ; -f -C"),
    "cpio": options("-i -p --extract --pass-through ; -D -F -I"),
    "patch": None,
    "pax": options("-r"),
}


def obeyed(program: str, words: Sequence[str]) -> str | None:
    """What the program does with its standard input if that is more than to read data, None if it is not."""
    name = programs.base_name(program)
    if name in _ALWAYS:
        return "takes commands from standard input"
    if name in _CONSOLES and not any(word.partition("=")[0] in _TEXTS for word in words):
        return "takes commands from standard input where no option has any"
    if name in _BARE and all(word.startswith("-") and word not in _TEXTS for word in words):
        return "takes commands from standard input where no word has any"
    if name in _BARE | _BY_NAME and any(word.rpartition("=")[2] in _NAMES for word in words):
        return "obeys standard input"
    if name == "sed":
        pairs = zip(("", *words), (*words, ""), strict=True)
        values = (value or after for word, after in pairs if word for _, value in _OF_SED.found(word))
        if not _NAMES.isdisjoint(values):
            return "obeys standard input"
    if name in _UNPACK:
        wanted = _UNPACK[name]
        bundle = [f"-{words[0]}"] if words and not words[0].startswith("-") else []
        if wanted is None or any(True for word in (*bundle, *words) for _ in wanted.found(word)):
            return "writes the files that standard input names"
    return None
