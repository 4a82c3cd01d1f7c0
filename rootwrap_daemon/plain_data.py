"""Turn values into plain data (msgpack, JSON) and back, for another process of the same program.

Promises: what comes back is equal to what was given, or nothing comes back: each field is of the type that
its class says, each class one that a field's type names, and each class checks its own fields. Nothing is
called but these classes.
"""

import enum
import functools
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

T = TypeVar("T")
_Build = Callable[[Any], Any]


def to_plain(value: object) -> object:
    """The plain data of a dataclass, and of what it holds; fields that have their defaults are left out."""
    if is_dataclass(value):
        kind = cast(Any, type(value))
        defaults = _defaults(kind)
        given = ((name, getattr(value, name)) for name in defaults)
        return [kind.__name__, {name: to_plain(one) for name, one in given if one != defaults[name]}]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return [[to_plain(key), to_plain(one)] for key, one in value.items()]
    if isinstance(value, tuple | frozenset):
        return [to_plain(one) for one in (sorted(value) if isinstance(value, frozenset) else value)]
    return value


@functools.cache
def _defaults(kind: Any) -> dict[str, object]:
    """The fields of a class that are given to it, each with its default, MISSING for none."""
    return {
        one.name: one.default if one.default_factory is MISSING else one.default_factory()
        for one in fields(kind)
        if one.init
    }


def from_plain(kind: type[T], data: object) -> T:
    """The value of this class whose plain data this is. Raises ValueError."""
    build = _builder(cast(Hashable, kind))
    try:
        return cast(T, build(data))
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


@functools.cache
def _builder(kind: Any) -> _Build:
    """Return what makes a value of a field's type from plain data; it raises what `from_plain` catches."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(tuple(one for one in inner if one is not type(None)), optional=type(None) in inner)
    if is_dataclass(kind):
        return _one_of((kind,), optional=False)
    if origin is Literal:
        return lambda data: _checked(data, data in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        builders = tuple(map(_builder, inner))
        return lambda data: tuple(build(one) for build, one in zip(builders, _items(data), strict=True))
    if origin in (tuple, frozenset):
        build = _builder(inner[0])
        return lambda data: origin(map(build, _items(data)))
    if origin in (dict, Mapping):
        key, value = map(_builder, inner)
        return lambda data: {key(one): value(other) for one, other in _items(data)}
    if kind is float:
        return lambda data: float(_checked(data, type(data) in (int, float)))
    if issubclass(kind, enum.Enum):
        return cast(_Build, kind)
    return lambda data: _checked(data, type(data) is kind)


def _checked(data: T, right: bool) -> T:
    if not right:
        raise TypeError(f"a field is not of its type, but {type(data).__name__}")
    return data


def _items(data: Any) -> Any:
    return _checked(data, isinstance(data, list | tuple))


def _one_of(kinds: tuple[Any, ...], *, optional: bool) -> _Build:
    """Return what makes a value of one of these types: of classes, the one that the data name."""
    classes = {one.__name__: _of_class(one) for one in kinds} if is_dataclass(kinds[0]) else {}
    other = None if classes else _builder(kinds[0])

    def build(data: Any) -> Any:
        if data is None and optional:
            return None
        if other is not None:
            return other(data)
        name, given = data
        return classes[name](given)

    return build


def _of_class(kind: Any) -> _Build:
    builders = {one.name: _builder(cast(Any, one.type)) for one in fields(kind) if one.init}
    return lambda given: kind(**{name: builders[name](one) for name, one in given.items()})
