"""Print a completion script for bash or zsh: commands, their options, and what those take.

It is made of the same argument parsers that read the command line, so that it knows every option.
"""

import argparse
import shlex
from collections.abc import Iterator
from typing import Final

EPILOG = """\
example:
  rootwrapctl completion bash > /usr/share/bash-completion/completions/rootwrapctl
  rootwrapctl completion zsh > /usr/share/zsh/site-functions/_rootwrapctl"""
#: Metavars of what is a file or directory; the rest has no completion.
_FILES: Final = frozenset(("FILE", "PATH", "AUDIT", "OLD", "NEW"))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh"), help="bash or zsh")


def run(args: argparse.Namespace) -> int:
    print(*(_bash() if args.shell == "bash" else _zsh()), sep="\n")
    return 0


def _parsers() -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """The parser of each command, and its help."""
    from rootwrap_daemon.cli import ctl

    for name in ctl.COMMANDS:
        module, parser = ctl.load(name), argparse.ArgumentParser(name)
        module.configure(parser)
        yield parser, ctl.help_of(module)


def _metavar(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else ""


def _positional(parser: argparse.ArgumentParser) -> tuple[list[str], bool]:
    """The words that positional arguments can be, and whether they can be files."""
    words: list[str] = []
    files = False
    for action in parser._actions:
        if not action.option_strings:
            words += map(str, action.choices or ())
            files = files or _metavar(action) in _FILES
    return words, files


def _bash() -> Iterator[str]:
    parsers = [parser for parser, _ in _parsers()]
    yield "# bash completion of rootwrapctl, made by `rootwrapctl completion bash`"
    yield "_rootwrapctl() {"
    yield "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}"
    yield "    local words= files= index"
    yield "    # bash takes --option=value for three words."
    yield "    if [[ $current == = ]]; then current="
    yield "    elif [[ $previous == = ]]; then previous=${COMP_WORDS[COMP_CWORD-2]}"
    yield "    fi"
    yield "    COMPREPLY=()"
    yield "    if (( COMP_CWORD == 1 )); then"
    names = " ".join((*(parser.prog for parser in parsers), "--help", "--version"))
    yield f'        COMPREPLY=($(compgen -W {shlex.quote(names)} -- "$current"))'
    yield "        return"
    yield "    fi"
    yield "    for (( index = 2; index < COMP_CWORD; index++ )); do"
    yield "        # The words of another command follow."
    yield "        [[ ${COMP_WORDS[index]} == -- ]] && return"
    yield "    done"
    yield "    case ${COMP_WORDS[1]} in"
    for parser in parsers:
        words, files = _positional(parser)
        options = [option for action in parser._actions for option in action.option_strings]
        yield f"    {parser.prog})"
        yield "        case $previous in"
        for action in parser._actions:
            if action.option_strings and action.nargs != 0:
                values = " ".join(map(str, action.choices or ()))
                taken = f"words={shlex.quote(values)}" if values else "words="
                is_file = "yes" if _metavar(action) in _FILES else ""
                yield f"        {'|'.join(action.option_strings)}) {taken} files={is_file} ;;"
        yield f"        *) words={shlex.quote(' '.join(words))} files={'yes' if files else ''}"
        yield f"            [[ $current == -* ]] && words={shlex.quote(' '.join(options))} files= ;;"
        yield "        esac"
        yield "        ;;"
    yield "    esac"
    yield '    [[ -n $words ]] && COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "    if [[ -n $files ]]; then"
    yield "        compopt -o filenames 2>/dev/null"
    yield '        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")'
    yield "    fi"
    yield "}"
    yield "complete -F _rootwrapctl rootwrapctl"


def _zsh() -> Iterator[str]:
    parsers = list(_parsers())
    yield "#compdef rootwrapctl"
    yield "# zsh completion of rootwrapctl, made by `rootwrapctl completion zsh`"
    yield "local -a commands=("
    for parser, text in parsers:
        yield f"    {shlex.quote(f'{parser.prog}:{text}')}"
    yield ")"
    yield "if (( CURRENT == 2 )); then"
    yield "    _describe command commands"
    yield "    return"
    yield "fi"
    yield "(( CURRENT-- ))"
    yield "shift words"
    yield "case ${words[1]} in"
    for parser, _ in parsers:
        yield f"{parser.prog})"
        yield "    _arguments -S \\"
        for spec in _zsh_specs(parser):
            yield f"        {shlex.quote(spec)} \\"
        yield "        && return"
        yield "    ;;"
    yield "esac"


def _zsh_specs(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        values = f"({' '.join(map(str, action.choices))})" if action.choices else ""
        values = values or ("_files" if _metavar(action) in _FILES else " ")
        name = _metavar(action) or action.dest
        for option in action.option_strings:
            text = (action.help or "").translate(str.maketrans("[]:", "() ")).replace("%%", "%")
            # As often as wanted, where the parser collects values.
            often = "*" if isinstance(action, argparse._AppendAction) else ""
            # With =, zsh takes both `--option value` and `--option=value`.
            equals = "=" if action.nargs != 0 and option.startswith("--") else ""
            yield f"{often}{option}{equals}[{text}]" + (f":{name}:{values}" if action.nargs != 0 else "")
    # One for all: a second rest argument is an error to _arguments.
    places = [action for action in parser._actions if not action.option_strings]
    if places:
        words, files = _positional(parser)
        yield f"*:{_metavar(places[0])}:{'_files' if files else f'({chr(32).join(words)})'}"
