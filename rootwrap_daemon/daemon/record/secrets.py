"""Replace what looks like a secret by `***`, in the words of a command and in its output.

Promises: no word or output that has no name of a secret in it changes; a hostile text costs time in
proportion to its length. The table covers every key of oslo_utils.strutils, which is not imported: the
serving process loads no oslo library.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rootwrap_daemon.daemon.record.secret_words import KEYWORDS, OPTIONS, PROGRAMS

HIDDEN: Final = "***"
#: Names of secrets in lower case, as oslo_utils.strutils.mask_password has them: each may be the end of a
#: longer name, and numbers may follow it.
KEYS: Final = tuple(
    """
    adminpass admin_pass password admin_password auth_token new_pass auth_password secret_uuid secret sys_pswd
    token configdrive chappassword encrypted_key private_key fernetkey sslkey passphrase cephclusterfsid
    octaviaheartbeatkey rabbitcookie cephmanilaclientkey pacemakerremoteauthkey designaterndckey cephadminkey
    heatauthencryptionkey cephclientkey keystonecredential barbicansimplecryptokek cephrgwkey swifthashsuffix
    migrationsshkey cephmdskey cephmonkey chapsecret
    """.split()
)
#: Characters of an argv up to which patterns look at all of it at once.
MAX_MASKED: Final = 16 * 1024

# In argv more is a name than in output: words are short, and what is hidden there by mistake costs little.
_KEY: Final = (
    r"(?:(?:api|auth|access|private|secret|shared|master|security|encrypt(?:ed|ion)|client|admin|ss[hl])"
    r"[-_.]?key|(?<![a-z])(?:pre-?shared-?)?key)"
)
_NAME: Final = (
    rf"(?:pass(?:word|wd|phrase)?|pwd|pswd|secret|token|credentials?|psk|cookie|authorization|{_KEY}"
    rf"|{'|'.join(key for key in KEYS if not re.search('pass|pswd|secret|token|credential|cookie', key))})"
)
#: What may follow a name: a number, open-iscsi's `_in` for the other direction, Nova's `_uuid`.
_TAIL: Final = r"(?:[0-9]{1,4}|_in|_uuid)?"
# These run on the attacker's words while the interpreter is held: every repetition is bounded, or cannot
# overlap what follows it.
_SUSPECT = re.compile(rf"{_NAME}|://", re.IGNORECASE | re.ASCII)
_ASSIGNMENT = re.compile(
    rf"((?:(?!{_KEY}){_NAME}[^=:\s]{{0,40}}|{_NAME}{_TAIL}[\"']?)\s{{0,3}}[=:]\s{{0,3}})\S.*",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_ELEMENT = re.compile(rf"(<[^<>]{{0,60}}{_NAME}{_TAIL}>)[^<]+", re.IGNORECASE | re.ASCII)
#: `--no-ask-password`, `--ask-pass`, `--prompt-password` have no value.
_VALUED: Final = "(?!--?(?:no|ask|prompt)-)"
_OPTION = re.compile(rf"{_VALUED}-[\w.-]{{0,60}}?{_NAME}{_TAIL}", re.IGNORECASE | re.ASCII)
#: A word that is the name of a secret, as `node.session.auth.password` or `wifi-sec.psk`. Not `passwd`, which
#: is a program and a database.
_BARE = re.compile(rf"{_VALUED}(?!passwd\Z)[\w.-]{{0,80}}?{_NAME}{_TAIL}", re.IGNORECASE | re.ASCII)
#: `--name=node.session.auth.password`.
_NAMING = re.compile(rf"--?[\w-]{{1,40}}=[\w.-]{{0,80}}?{_NAME}{_TAIL}", re.IGNORECASE | re.ASCII)
_URL = re.compile(r"(https?://(?=[^/@:\s]{1,256}@)|://[^/@:\s]{0,256}:)[^/\s]+(@)", re.ASCII)
#: Options that hold the value where another word names it.
_VALUE = re.compile(r"(-v|--value=?)(.*)", re.ASCII | re.DOTALL)
#: What every name of a secret, and every URL, has in it.
_MARKS: Final = (
    *("pass", "pwd", "pswd", "secret", "token", "credential", "key", "psk", "cookie", "authorization", "://"),
    *("configdrive", "cephclusterfsid", "cryptokek", "hashsuffix"),
)


def mask_words(argv: tuple[str, ...], room: int, hidden: frozenset[int] = frozenset()) -> list[str]:
    """Return the words with what looks like a secret, and the words at the places `hidden`, replaced.

    As many of them, and as much of the last, as `room` characters could hold at most.
    """
    if not hidden and sum(map(len, argv)) + len(argv) <= MAX_MASKED and not is_suspect(argv):
        return _cut(argv, room)
    # What `room` has a place for, the last of it cut; all others.
    first = _cut(argv, room)
    rest = argv[len(first) :]
    hidden = hidden.union(_behind_keywords(first))
    naming = any(_BARE.fullmatch(word) or _NAMING.fullmatch(word) for word in first[1:])
    naming = naming or any(map(_has_mark, rest))
    masked: list[str] = []
    # What the next word is: `hide` it whole; `value`: hide it unless it is an option, and then what follows.
    hide = value = False
    options: frozenset[str] = frozenset()
    for place, word in enumerate(first):
        options = OPTIONS.get(word.rpartition("/")[2], options)
        if hide or place in hidden:
            masked.append(HIDDEN)
            hide = value = False
            continue
        is_option = word.startswith("-") and word != "-"
        if value and not is_option:
            masked.append(HIDDEN)
            value = False
            continue
        hide, value, text = value, False, word
        glued = (one for one in options if word.startswith(one) and not one.startswith("--"))
        if found := max(glued, key=len, default=""):
            hide = word == found
            text = found if hide else found + HIDDEN
        elif word.partition("=")[0] in options:
            name, equals, _ = word.partition("=")
            hide, text = not equals, name + equals + HIDDEN * bool(equals)
        elif naming and (match := _VALUE.fullmatch(word)):
            hide = not match[2]
            text = match[1] + (HIDDEN if match[2] else "")
        elif _SUSPECT.search(word):
            hide = hide or _OPTION.fullmatch(word) is not None
            value = place > 0 and not hide and _BARE.fullmatch(word) is not None
            text = _URL.sub(r"\1***\2", _ASSIGNMENT.sub(r"\1***", _ELEMENT.sub(r"\1***", word)))
        masked.append(text)
    return _cut(masked, room)


def _behind_keywords(words: list[str]) -> Iterator[int]:
    """The places of secrets that a keyword of their program stands before."""
    keywords: Mapping[str, tuple[int, ...]] = {}
    for place, word in enumerate(words):
        if found := KEYWORDS.get(word.rpartition("/")[2]):
            keywords = found
            yield from (place + after for after in keywords.get(".", ()))
        yield from (place + after for after in keywords.get(word, ()))


def is_suspect(argv: tuple[str, ...]) -> bool:
    """True if a word could be a secret or name one."""
    # One look for all words: no name of a secret has a NUL in it.
    if _SUSPECT.search("\0".join(argv)):
        return True
    return any(word.rpartition("/")[2] in PROGRAMS for word in argv)


def mask_whole(argv: tuple[str, ...], hidden: frozenset[int] = frozenset()) -> list[str]:
    """Return all words of a long argv: each with a mark of a secret hidden whole, and the two after it."""
    left = 0
    words = []
    for place, word in enumerate(argv):
        if _has_mark(word):
            left = 3
        words.append(HIDDEN if left or place in hidden else word)
        left -= left > 0
    return words


def _has_mark(word: str) -> bool:
    lower = word.lower()
    return any(mark in lower for mark in _MARKS) or lower.rpartition("/")[2] in PROGRAMS


def _cut(argv: Iterable[str], room: int) -> list[str]:
    words = []
    for word in argv:
        if room <= 0:
            break
        words.append(word[:room])
        room -= len(word) + 1
    return words


#: What stands around a secret in output, for one key: both groups are kept.
_FORMS: Final = (
    r"""({key}(?:\s*=\s*|\s+)")(?:[^"\\]|\\.)*(")""",
    r"""({key}(?:\s*=\s*|\s+)')(?:[^'\\]|\\.)*(')""",
    r"""({key}(?:\s*=\s*|\s+)["'])[^"']*(["'])""",
    r"""(--{key}\s+)[^'"=\s]+()""",
    r"""(<{key}>)[^<]*(</{key}>)""",
    r"""(["'][^"']*{key}["']\s*:\s*u?")(?:[^"\\]|\\.)*(")""",
    r"""(["'][^"']*{key}["']\s*:\s*u?')(?:[^'\\]|\\.)*(')""",
    r"""(["'][^"']*{key}["']\s*:\s*u?["'])[^"']*(["'])""",
    r"""(["'][^"']*{key}["']\s*,\s*'--?[A-Za-z_^`\[\]\\]+'\s*,\s*u?["'])[^"']*(["'])""",
    r"""({key}\s*--?[A-Za-z_^`\[\]\\]+\s*)\S+()""",
    r"""({key}\s*=\s*)[^\s'"^]+()""",
)
#: Bytes of output that may be looked through: some milliseconds for each key that is in it.
MAX_OUTPUT: Final = 256 * 1024
_compiled: dict[str, tuple[re.Pattern[str], ...]] = {}


def without_secrets(data: bytes) -> bytes:
    """Return the same output with secrets replaced; any other byte stays as it is."""
    return mask_text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def mask_text(text: str) -> str:
    """Return the text with secrets replaced, where oslo_utils.strutils.mask_password finds one."""
    lower = text.lower()
    for key in KEYS:
        if key in lower:
            for pattern in _patterns_of(key):
                text = pattern.sub(r"\1***\2", text)
    return text


def _patterns_of(key: str) -> tuple[re.Pattern[str], ...]:
    if key not in _compiled:
        _compiled[key] = tuple(
            re.compile(form.replace("{key}", f"{key}[0-9]*"), re.IGNORECASE | re.DOTALL) for form in _FORMS
        )
    return _compiled[key]
