"""Write explanations as text for a terminal or a pipe, and as JSON."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from rootwrap_daemon.analysis.explain import Effect, Explanation
from rootwrap_daemon.analysis.load import Source, definition, where
from rootwrap_daemon.analysis.trace import Trace

_GOOD, _BAD, _DIM = "green", "bold red", "dim"


def console() -> Console:
    """Return where to print: colours on a terminal, plain and unwrapped text in a pipe."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def quoted(words: Iterable[str]) -> str:
    """The words as a shell would take them, with everything unprintable escaped."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # Bytes that are no UTF-8 came as surrogates: back to what they were.
    shown = "".join(
        char
        if char.isprintable() and char not in "'\\"
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        for char in word
    )
    return f"$'{shown}'"


def explanation(out: Console, source: Source, found: Explanation, most: int | None) -> None:
    """Print an explanation with at most `most` filters."""
    what = Text()
    what.append(found.code.replace("_", " "), _GOOD if found.allowed else _BAD)
    if found.filter:
        what.append(f" by {found.filter}" if found.allowed else f", filter {found.filter}", "")
    if found.detail:
        what.append(f": {found.detail}", "")
    out.print(what)
    out.print(f"    {quoted(found.argv)}")
    if not found.allowed and (place := wrong_place(found)) is not None:
        before = sum(len(_quoted(word)) + 1 for word in found.argv[:place])
        wide = len(_quoted(found.argv[place])) if place < len(found.argv) else 1
        out.print(Text(f"    {' ' * before}{'^' * wide}", _BAD))
    for unseen in found.unseen:
        out.print(Text(f"not certain: could not see {unseen}", "yellow"))
    if found.effect is not None:
        out.print("would run:" if found.effect.action == "execute" else "would happen:")
        for line in effect_lines(found.effect):
            out.print(f"    {line}")
    for text in lines(source, found, most):
        out.print(text)


def wrong_place(found: Explanation) -> int | None:
    """The place of the first word that the nearest filter does not take."""
    trace = found.traces[0] if found.traces else None
    while trace is not None and not trace.matches:
        for step in trace.steps:
            if not step.ok:
                return step.place
        trace = trace.inner[0] if trace.inner else None
    return None


def lines(source: Source, found: Explanation, most: int | None) -> Iterator[Text]:
    """The filters that could have taken the request, nearest first, each word by word."""
    # Of a request that is allowed, those that allow it are of interest.
    wanted = [trace for trace in found.traces if trace.matches] if found.allowed and most else found.traces
    shown = wanted[:most]
    if not found.traces:
        yield Text(f"no filter is for the command {quoted(found.argv[:1])}")
    elif not found.allowed:
        yield Text("nearest first:")
    for trace in shown:
        yield from _trace_lines(source, trace, found, found.argv, "")
    if len(shown) < len(found.traces):
        yield Text(f"and {len(found.traces) - len(shown)} more", _DIM)


def _trace_lines(
    source: Source, trace: Trace, found: Explanation, argv: Sequence[str], indent: str
) -> Iterator[Text]:
    one = trace.filter
    yield Text.assemble(indent, (one.name, "bold"), f"  {where(one.location)}", style="")
    yield Text(f"{indent}    {definition(source.entry(one))}", _DIM)
    words = [_quoted(step.word) if step.word is not None else "(nothing)" for step in trace.steps]
    width = min(40, max(map(len, words), default=0))
    wrong = next((step for step in trace.steps if not step.ok), None)
    for step, word in zip(trace.steps, words, strict=True):
        wanted = step.wanted or "no more words"
        yield Text.assemble(
            f"{indent}    ",
            # Behind the first wrong word, what a filter would want is a guess.
            ("ok  ", _GOOD) if step.ok else ("NO  ", _BAD) if step is wrong else ("    ", _DIM),
            f"{step.place:>2}  {word:<{width}}  {wanted}",
        )
    if trace.stopped:
        yield Text(f"{indent}    {trace.stopped}", _BAD)
    for name, why in found.obstacles.items():
        if name.partition("+")[0] == one.name and trace.matches:
            yield Text(f"{indent}    the words match, but {name}: {why}", _BAD)
    for inner in trace.inner:
        yield from _trace_lines(source, inner, found, argv, f"{indent}    ")


def effect_lines(effect: Effect) -> Iterator[str]:
    """Yield what would happen, a line each."""
    if effect.action == "signal":
        yield f"signal {effect.signal} to process {effect.pid}, sent by the daemon itself"
        return
    if effect.action == "read":
        yield f"the content of {effect.file}, read by the daemon itself"
        return
    yield quoted(effect.argv)
    for place in effect.nosymfollow:
        yield f"below {quoted([place])} no symbolic link is followed, and nothing executed"
    groups = ",".join(map(str, effect.groups)) or "none"
    yield f"as {effect.user} (uid {effect.uid}, gid {effect.gid}, groups {groups}) in {effect.cwd}"
    kept = effect.ambient or () if effect.uid else effect.capabilities
    names = "all that the daemon has" if kept is None else " ".join(kept) or "none"
    yield f"capabilities: {names}{', no new privileges' if effect.no_new_privs else ''}"
    yield f"environment: {quoted(f'{name}={value}' for name, value in effect.env.items())}"
    limits = "".join(f", {name} {number}" for name, number in effect.limits.items())
    umask = f", umask {effect.umask}" if effect.umask else ""
    seconds = "no limit in time" if effect.timeout is None else f"{effect.timeout:g} s"
    yield f"limits: {seconds}, {effect.max_output} bytes of output{limits}{umask}"


def as_json(source: Source, found: Explanation) -> dict[str, Any]:
    """The explanation as what json.dumps takes; words as the daemon decodes them."""
    return {
        "argv": list(found.argv),
        "allowed": found.allowed,
        "certain": found.certain,
        "code": found.code,
        "detail": found.detail,
        "filter": found.filter,
        "unseen": list(found.unseen),
        "obstacles": found.obstacles,
        "effect": None if found.effect is None else asdict(found.effect),
        "filters": [_trace_json(source, trace) for trace in found.traces],
    }


def _trace_json(source: Source, trace: Trace) -> dict[str, Any]:
    one = trace.filter
    return {
        "name": one.name,
        "kind": type(one).__name__,
        "file": one.location.file,
        "line": one.location.line,
        "definition": definition(source.entry(one)),
        "matches": trace.matches,
        "stopped": trace.stopped,
        "words": [asdict(step) for step in trace.steps],
        "inner": [_trace_json(source, inner) for inner in trace.inner],
    }
