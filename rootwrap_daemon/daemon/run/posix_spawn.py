"""Start a program by posix_spawn(3) of the C library, which lets go of the GIL until the program is executed.

Promises: a session of its own, every signal at its default and none blocked, no descriptor but those that are
named. `os.posix_spawn` and, before Python 3.11.4, `subprocess` hold the GIL meanwhile.
"""

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import Final

# POSIX_SPAWN_SETSIGDEF, POSIX_SPAWN_SETSIGMASK, POSIX_SPAWN_SETSID: spawn.h of glibc and musl.
_FLAGS: Final = 0x04 | 0x08 | 0x80
#: More than a posix_spawnattr_t, a posix_spawn_file_actions_t or a sigset_t has anywhere.
_ROOM: Final = 1024
#: File actions that are kept for the next time.
_MOST_KEPT: Final = 64
#: Characters of an environment that is kept for the next time.
_SMALL: Final = 256


class PosixSpawn:
    """posix_spawn(3) with attributes that are made once."""

    def __init__(self) -> None:
        """Raises AttributeError where the C library has not all of it (glibc 2.34)."""
        libc = ctypes.CDLL(None)
        pointer = ctypes.c_void_p
        self._spawn = libc.posix_spawn
        self._spawn.argtypes = (pointer, ctypes.c_char_p, pointer, pointer, pointer, pointer)
        # These never wait: PyDLL keeps the GIL, which costs less than to give it away.
        quick = ctypes.PyDLL(None)
        self._begin, self._end = quick.posix_spawn_file_actions_init, quick.posix_spawn_file_actions_destroy
        self._open = quick.posix_spawn_file_actions_addopen
        self._dup2 = quick.posix_spawn_file_actions_adddup2
        self._chdir = quick.posix_spawn_file_actions_addchdir_np
        self._close_from = quick.posix_spawn_file_actions_addclosefrom_np
        self._begin.argtypes = self._end.argtypes = (pointer,)
        self._open.argtypes = (pointer, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint)
        self._dup2.argtypes = (pointer, ctypes.c_int, ctypes.c_int)
        self._chdir.argtypes = (pointer, ctypes.c_char_p)
        self._close_from.argtypes = (pointer, ctypes.c_int)
        self._kept: dict[tuple[str | int | None, ...], ctypes.Array[ctypes.c_char]] = {}
        self._attributes = ctypes.create_string_buffer(_ROOM)
        signals = ctypes.create_string_buffer(_ROOM)
        _check(libc.posix_spawnattr_init(self._attributes))
        _check(libc.posix_spawnattr_setflags(self._attributes, ctypes.c_short(_FLAGS)))
        _check(libc.posix_spawnattr_setsigmask(self._attributes, signals))
        # Every bit: sigfillset(3) leaves out two of glibc's own, which the program would then ignore.
        ctypes.memset(signals, 0xFF, _ROOM)
        _check(libc.posix_spawnattr_setsigdefault(self._attributes, signals))

    def __call__(
        self, argv: Sequence[str], env: dict[str, str], cwd: str, descriptors: Sequence[int | None]
    ) -> int:
        """Execute `argv`, whose first word is a path. Returns the pid. Raises OSError, ValueError.

        `descriptors` become 0, 1, 2, ...; None: /dev/null.
        """
        words = [os.fsencode(word) for word in argv]
        block = _kept_block if sum(map(len, env.values())) < _SMALL else _block
        variables = block(tuple(env.items()))
        # ctypes would end a word there, and another one would be executed than was judged.
        if any(b"\0" in word for word in words):
            raise ValueError("a null byte in an argument")
        key = cwd, *descriptors
        actions = kept = self._kept.get(key)
        if actions is None:
            actions = self._actions(cwd, descriptors)
            if len(self._kept) < _MOST_KEPT:
                kept = self._kept.setdefault(key, actions)
        pid = ctypes.c_int()
        try:
            _check(
                self._spawn(
                    ctypes.byref(pid),
                    words[0],
                    actions,
                    self._attributes,
                    (ctypes.c_char_p * (len(words) + 1))(*words),
                    variables,
                )
            )
        finally:
            if kept is None:
                self._end(actions)
        return pid.value

    def _actions(self, cwd: str, descriptors: Sequence[int | None]) -> "ctypes.Array[ctypes.c_char]":
        """File actions for this directory and these descriptors, which the next command mostly has, too."""
        actions = ctypes.create_string_buffer(_ROOM)
        _check(self._begin(actions))
        try:
            for number, descriptor in enumerate(descriptors):
                if descriptor is None:
                    _check(self._open(actions, number, b"/dev/null", os.O_RDWR, 0))
                else:
                    _check(self._dup2(actions, descriptor, number))
            _check(self._chdir(actions, os.fsencode(cwd)))
            _check(self._close_from(actions, len(descriptors)))
        except BaseException:
            self._end(actions)
            raise
        return actions


def _block(env: tuple[tuple[str, str], ...]) -> "ctypes.Array[ctypes.c_char_p]":
    if any("=" in name or "\0" in name or "\0" in value for name, value in env):
        raise ValueError("no name or no value of a variable")
    return (ctypes.c_char_p * (len(env) + 1))(*(os.fsencode(f"{name}={value}") for name, value in env))


_kept_block = functools.lru_cache(maxsize=64)(_block)


def _check(failed: int) -> None:
    if failed:
        raise OSError(failed, os.strerror(failed))
