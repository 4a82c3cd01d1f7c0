"""RW350-RW354: what a program does with files that no path in its words shows.

Promises: words are read as getopt_long(3) does, by the tables in knowledge/files.py and, for RW352, by those
that the daemon has in policy/behaviour.py; a pattern counts as every option of them that it matches.
"""

from collections.abc import Iterator

from rootwrap_daemon.lint.finding import Problem, Severity, at
from rootwrap_daemon.lint.knowledge import files, regexes
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Line, Subject
from rootwrap_daemon.lint.words import Word, commands
from rootwrap_daemon.policy import host as looks
from rootwrap_daemon.policy import places
from rootwrap_daemon.policy.behaviour import BUNDLED, CODE, OBEYS, OBEYS_OPERANDS, is_in, plain, takes_words
from rootwrap_daemon.policy.getopt import Options, options


def _has(words: list[Word], wanted: Options | None) -> bool:
    return wanted is not None and any(True for word in words for _ in word.found(wanted))


def _unpacks(program: str, words: list[Word]) -> bool:
    return _has(words, files.UNPACKS.get(program)) or any("x" in one for one in _bundle(program, words))


def _bundle(program: str, words: list[Word]) -> list[str]:
    """The letters of options that the first word may be without a dash."""
    texts = words[0].texts if words and program in BUNDLED else ()
    return [text for text in texts if not text.startswith("-")]


@rule("RW350", Severity.ERROR)
def foreign_modes(subject: Subject) -> Iterator[Problem]:
    """A command by which files of others become root's with the modes that others gave them.

    A set-user-id file in an archive, or in a directory of the caller's, is then one of root's; an archive has
    device nodes, too, of any disk.

    Found::

        unpack: ArgvFilter, tar, root, -xf, {path=/srv/in}, -C, {path=/srv/out}
        [unpack]
        stdin = no

    Found::

        copy: ArgvFilter, cp, root, --preserve=mode, {path=/srv/in}, {path=/srv/out}

    Found::

        install: RegExpFilter, install, root, install, -m, [0-7]+, /srv/in/[a-z]+, /srv/out

    Found::

        sync: ArgvFilter, rsync, root, -a, --chown=root:root, {path=/srv/in}, {path=/srv/out}

    Found::

        package: ArgvFilter, dpkg-deb, root, -x, {path=/srv/in}, {path=/srv/out}

    Found::

        mode: ArgvFilter, chmod, root, {int}, {path=/srv/in}

    Found::

        node: ArgvFilter, mknod, root, {path=/srv/in}, b, {int}, {int}

    Fine::

        unpack: ArgvFilter, tar, root, --no-same-owner, --no-same-permissions, -xf, {path=/a}, -C, {path=/b}
        [unpack]
        capabilities = CAP_DAC_OVERRIDE
        stdin = no

    Fine::

        unpack: ArgvFilter, tar, nobody, -xf, {path=/srv/in}, -C, {path=/srv/out}

    Fine::

        copy: ArgvFilter, cp, root, -a, {path=/srv/in}, {path=/srv/out}
    """
    for line in subject.lines:
        part = line.program_field
        for program, words in commands(line) if line.filter is not None and part is not None else ():
            why, instead = _modes(line, program, words)
            if why and part is not None:
                yield at(part, f"{program} makes {why} root's", instead)
                break


def _modes(line: Line, program: str, words: list[Word]) -> tuple[str, str]:
    """Return what the command makes root's, and what to write instead; two empty texts for nothing."""
    user = "run it as a user that owns the directory"
    if _unpacks(program, words):
        if not _has(words, files.NO_MODES.get(program)):
            how = "--no-same-owner and --no-same-permissions, with capabilities that lack CAP_MKNOD"
            instead = f"{user}, or with {how}" if program in files.NO_MODES else user
            return "set-user-id files of an archive", instead
        kept = line.filter.options.capabilities if line.filter is not None else None
        if kept is None or "CAP_MKNOD" in kept:
            return "device nodes of an archive", f"{user}, or with capabilities that lack CAP_MKNOD"
    values = [(option, value) for word in words for option, value in word.found(_MODE_OPTIONS)]
    if _keeps_modes_alone(program, words):
        return "set-user-id files of others", "keep the owner, too, or not the mode"
    if program == "unzip" and any(option == "-K" for option, _ in values):
        return "set-user-id files of an archive", "take -K out"
    if program == "install":
        for number, word in enumerate(words):
            for option, value in word.found(_MODE_OPTIONS):
                following = words[number + 1] if number + 1 < len(words) else None
                if option in ("-m", "--mode") and _is_foreign_mode(value, following):
                    return "what others wrote a set-user-id file", "write a mode of three digits"
    plain = [word for word in words if not word.is_option]
    free = any(word.type for word in plain[1:])
    if program == "chmod" and free and (plain[0].type or any(map(_sets_id, plain[0].texts))):
        return "what others had copied there a set-user-id file", "write a mode of three digits"
    texts = {text for word in plain for text in word.texts}
    if program == "mknod" and any(word.type for word in plain) and texts & {"b", "c", "u"}:
        what = "the device of any disk, under a name of the caller's,"
        return what, "have root make the one device that is needed"
    return "", ""


def _keeps_modes_alone(program: str, words: list[Word]) -> bool:
    """True if a copy of somebody's file has the mode of that file, and root as its owner."""
    said = {one for word in words for one in word.found(_PRESERVED)} if program == "cp" else set()
    # All for an option alone; nobody knows for a pattern.
    texts = ("mode,all" if value is None else value or "mode" for name, value in said if name == "--preserve")
    kept = {one for text in texts for one in text.split(",")}
    lost = {one for option, value in said if option == "--no-preserve" for one in (value or "own").split(",")}
    if program == "cp" and _has(words, files.OWNERS["cp"]):
        return any(_is_owner(one) for one in lost)
    if program == "cp":
        return "mode" in kept and (not any(map(_is_owner, kept)) or any(map(_is_owner, lost)))
    owner = _has(words, files.OWNERS.get(program)) and not _has(words, files.NO_OWNERS.get(program))
    return _has(words, files.MODES.get(program)) and not owner


def _is_owner(attribute: str) -> bool:
    """True for a beginning of `ownership` or `all`, as cp(1) takes it."""
    return bool(attribute) and ("ownership".startswith(attribute) or "all".startswith(attribute))


_MODE_OPTIONS = options("-K -m --mode ; -m -t -S")
_PRESERVED = options("--preserve --no-preserve")


def _is_foreign_mode(value: str | None, following: Word | None) -> bool:
    """True for a mode that is not written out, or that has a bit of set-user-id or set-group-id."""
    if value is None and following is not None:
        return bool(following.type) or any(map(_sets_id, following.texts))
    return value is not None and (not value or _sets_id(value))


def _sets_id(mode: str) -> bool:
    return "s" in mode or (mode.isdecimal() and len(mode.lstrip("0")) > 3)


@rule("RW351", Severity.ERROR)
def below_the_root(subject: Subject) -> Iterator[Problem]:
    """A command that writes below its working directory, which is `/`.

    What it unpacks or patches has the names of files in it: `etc/passwd` is the system's then.

    Found::

        unpack: ArgvFilter, tar, nobody, -tf, {path=/srv/in}
        change: ArgvFilter, patch, root, -p1, -i, {path=/srv/in}
        [change]
        stdin = no

    Fine::

        change: ArgvFilter, patch, root, -p1, -d, /srv/tree, -i, {path=/srv/in}
        [change]
        stdin = no

    Fine::

        change: ArgvFilter, patch, root, -i, {path=/srv/in}, {path=/srv/tree}
        [change]
        stdin = no
    """
    for line in subject.lines:
        part = line.program_field
        if line.filter is None or part is None or line.filter.options.cwd:
            continue
        found = list(commands(line))
        if any(_has(words, files.ELSEWHERE.get(program)) for program, words in found):
            continue
        for program, words in found:
            writes = program in ("patch", "unzip") or _unpacks(program, words)
            if writes and not (program == "patch" and _has_operand(words)):
                instead = "name a directory, by an option or by `cwd`"
                yield at(part, f"{program} writes files below / by names that others choose", instead)
                break


def _has_operand(words: list[Word]) -> bool:
    value = False
    for word in words:
        if not value and not word.is_option and word.type != "pattern":
            return True
        value = any(one is None for _, one in word.found(files.PATCH_VALUED))
    return False


@rule("RW352", Severity.ERROR)
def said_in_a_file(subject: Subject) -> Iterator[Problem]:
    """A file of the caller's choice that names other files, or tells a program what to do.

    What a path in a word restricts, words in a file do not: `tar -T`, `--files0-from`, `md5sum -c` read any
    file as root, `sed -f` and `ip -batch` run any command, `chmod --reference` gives any mode.

    Found::

        pack: ArgvFilter, tar, root, -cf, /srv/out.tar, -T, {path=/var/lib/nova}

    Found::

        sums: RegExpFilter, md5sum, root, md5sum, --check, /var/lib/nova/[a-z]+

    Found::

        count: RegExpFilter, wc, root, wc, --files0-from=/var/lib/nova/[a-z]+

    Found::

        jobs: ArgvFilter, logrotate, root, {path=/var/lib/nova}
        [jobs]
        opens_paths = yes

    Found::

        words: RegExpFilter, gcc, root, gcc, @/var/lib/nova/[a-z]+

    Fine::

        pack: ArgvFilter, tar, root, -cf, /srv/out.tar, -T, /etc/list, {path=/var/lib/nova}

    Fine::

        sums: RegExpFilter, md5sum, root, md5sum, /var/lib/nova/[a-z]+
    """
    for line in subject.lines:
        for program, words in commands(line):
            if (found := _obeyed(subject, program, words)) is not None:
                instead = "write the name of a file that root alone can change, or use a script of root's"
                yield at(found[0].part, f"{program} does what is in a file: {found[1]}", instead)
                break


def _obeyed(subject: Subject, program: str, words: list[Word]) -> tuple[Word, str] | None:
    """The word with an option behind which a file stands that others say something in, and that option."""
    if bundle := _bundle(program, words):
        letters = tuple(f"-{letter}" for text in bundle for letter in text)
        words[0] = Word(letters, "", words[0].part)
    for word in words if takes_words(program) else ():
        texts = word.texts or (word.part.text,)
        if any(text[:1] == "@" and _is_theirs(subject, word, text[1:]) for text in texts):
            return word, "@FILE"
    for table in (OBEYS, OBEYS_OPERANDS):
        wanted = table.get(plain(program), options(""))
        for number, word in enumerate(words):
            for option, value in word.found(wanted):
                after = [word] if value is not None else words[number + 1 : number + 2]
                if table is OBEYS_OPERANDS or (bundle and number == 0):
                    after = words[number + 1 :]
                if any(_is_theirs(subject, one, value) for one in after):
                    return word, option
    is_code = is_in(CODE, program, [text for word in words for text in word.texts])
    path = next((word for word in words if is_code and word.type == "path"), None)
    return None if path is None else (path, path.part.text)


def _is_theirs(subject: Subject, word: Word, value: str | None) -> bool:
    """True for a word of the caller's choice, or one with a path that others can change on this host."""
    if word.type:
        return word.type not in ("int", "ip", "ipv4", "ipv6", "cidr", "mac", "uuid")
    if subject.host is None:
        return False
    for text in (value,) if value is not None else word.texts:
        if text.startswith("/"):
            try:
                if places.walk(text, subject.host.owners, looks.Seen()).place is not None:
                    return True
            except (looks.UntrustedPath, looks.Unsure):
                return True
    return False


def _is_open(word: Word) -> bool:
    """True for a type, and for a pattern of more than words that are written out."""
    return bool(word.type) and (
        word.type != "pattern" or regexes.witness(word.part.text, "a", "0") is not None
    )


@rule("RW354", Severity.WARNING)
def obeyed_content(subject: Subject) -> Iterator[Problem]:
    """A file that root executes or obeys, with content of the caller's choice.

    `tee` writes what a request brings, `cp` and `install` what is in a file that the caller chooses: whoever
    says what is in `/etc/sudoers`, in the configuration of a service of root's, or in
    `/proc/sys/kernel/core_pattern`, is root.

    Found::

        job: ArgvFilter, tee, root, /etc/cron.d/one

    Found::

        site: ArgvFilter, cp, root, {path=/var/lib/app}, /etc/nginx/nginx.conf

    Fine::

        state: ArgvFilter, tee, root, /run/app/state

    Fine::

        site: ArgvFilter, cp, root, /usr/share/app/nginx.conf, /etc/nginx/nginx.conf
    """
    for line in subject.lines:
        for program, words in commands(line):
            brings = program == "tee" and line.filter is not None and line.filter.options.stdin
            if program not in files.COPIES or not (brings or any(map(_is_open, words))):
                continue
            # Of those that copy, the last is what they write; tee writes each.
            for word in words if program in ("dd", "tee") else words[-1:]:
                # Of a pattern the beginning counts.
                bare = (word.part.text.replace("\\", ""),) if word.type == "pattern" else ()
                texts = [text.removeprefix("of=").rstrip("/") for text in word.texts or bare]
                if any(places.is_in(text, files.OBEYED) for text in texts):
                    what = (
                        f"{program} gives {word.part.text}, which root obeys, the content that a caller says"
                    )
                    yield at(word.part, what, "have a script of root's check the content and write it")
                    break


@rule("RW353", Severity.WARNING)
def name_in_the_root(subject: Subject) -> Iterator[Problem]:
    """A name without a directory where the program takes a file.

    A command stands in `/`: `rm -rf {name}` takes `etc`.

    Found::

        remove: ArgvFilter, rm, root, -rf, {name}

    Fine::

        remove: ArgvFilter, rm, root, -rf, {path=/var/lib/nova}

    Fine::

        own: ArgvFilter, chown, root, {name}, {path=/var/lib/nova}

    Fine::

        remove: ArgvFilter, rm, root, -rf, {name}
        [remove]
        cwd = /srv/images
    """
    for line in subject.lines:
        if line.filter is None or line.filter.options.cwd:
            continue
        for program, words in commands(line):
            operands = [word for word in words if not word.is_option and program in files.TAKES_FILES]
            for word in operands[program in files.FIRST_IS_NO_FILE :]:
                if word.type in ("name", "netns", "ifname"):
                    instead = "write {path=DIRECTORY}, or say `cwd`"
                    yield at(word.part, f"{program} takes this for a file in /", instead)
