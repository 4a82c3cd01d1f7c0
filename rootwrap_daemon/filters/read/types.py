"""Read the types of an ArgvFilter's words, `{name}` and `{name=parameter}`."""

from typing import Final

from rootwrap_daemon.filters.argv_types import PLAIN, WITH_PARAMETER, Choice, Matcher, Typed
from rootwrap_daemon.filters.read.fault import Fault, one_of
from rootwrap_daemon.filters.read.fields import USER

#: What to write instead of a parameter that a type cannot have.
_REMEDIES: Final = {
    "int": "write {int=LOW-HIGH}, as in {int=1-4094}",
    "path": "name the one directory meant",
    "pid": "write its name or its absolute path",
}


def typed(name: str, parameter: str | None) -> Matcher:
    """The matcher for `{name}` or `{name=parameter}`. Raises Fault, without a location."""
    if parameter is None and name in PLAIN:
        return Typed(name)
    if parameter is not None and name == "user":
        return _one_user(parameter)
    if parameter is not None and name in WITH_PARAMETER:
        try:
            return Typed(name, parameter.rstrip("/") if name == "path" else parameter)
        except ValueError as error:
            raise Fault("pattern", str(error), _REMEDIES[name]) from None
    if name in WITH_PARAMETER or name == "user":
        raise Fault("pattern", f"{name} needs a parameter", f"write {{{name}=...}}")
    if name in PLAIN:
        raise Fault("pattern", f"{name} takes no parameter", f"write {{{name}}}")
    types = sorted({*PLAIN, *WITH_PARAMETER, "user"})
    remedy = one_of(name, (*types, "or {=word} for a word"))
    raise Fault("pattern", f"there is no type {name!r}", remedy)


def _one_user(parameter: str) -> Matcher:
    names = parameter.split("|")
    if not all(map(USER.fullmatch, names)):
        raise Fault(
            "pattern", f"{parameter!r} does not name users", "write {user=nova} or {user=nova|cinder}"
        )
    return Choice(frozenset(names))
