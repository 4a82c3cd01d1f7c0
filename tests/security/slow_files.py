"""A file system of one file, whose server answers as a test likes: FUSE, by its protocol alone.

The source of numbers and structures is the kernel's include/uapi/linux/fuse.h.
"""

import contextlib
import ctypes
import errno
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_LOOKUP, _FORGET, _GETATTR, _OPEN, _RELEASE, _FLUSH, _INIT, _INTERRUPT = 1, 2, 3, 14, 18, 25, 26, 36
_IN: Final = struct.Struct("=IIQQIIII")
_OUT: Final = struct.Struct("=IiQ")
_DETACH: Final = 2
_libc = ctypes.CDLL(None, use_errno=True)


def _attributes(number: int) -> bytes:
    mode = 0o40755 if number == 1 else 0o100666
    return struct.pack("=6Q3I7I", number, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class SlowFiles:
    """Its server. `error`: what close(2) of the file says; None: it says nothing until `answer`.

    `silent`: it says nothing of names and attributes either.
    """

    def __init__(self, device: int) -> None:
        self.error: int | None = 0
        self.silent = False
        self.waiting = 0
        self._device = device
        self._unanswered: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Until the file system is gone."""
        with contextlib.suppress(OSError):
            while True:
                self._serve_one(os.read(self._device, 1 << 18))

    def _serve_one(self, data: bytes) -> None:
        _, kind, unique, node, *_ = _IN.unpack_from(data)
        if kind == _INIT:
            self._say(unique, struct.pack("=4I2H2I2H8I", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, *[0] * 8))
        elif kind in (_LOOKUP, _GETATTR) and self.silent:
            with self._lock:
                self._unanswered.append((unique, errno.EIO))
                self.waiting += 1
        elif kind == _LOOKUP:
            self._say(unique, struct.pack("=4Q2I", 2, 0, 100, 100, 0, 0) + _attributes(2))
        elif kind == _GETATTR:
            self._say(unique, struct.pack("=QII", 100, 0, 0) + _attributes(node))
        elif kind == _OPEN:
            self._say(unique, struct.pack("=QII", 1, 0, 0))
        elif kind == _FLUSH and self.error is None:
            with self._lock:
                self._unanswered.append((unique, 0))
                self.waiting += 1
        elif kind in (_FLUSH, _RELEASE):
            self._say(unique, error=(self.error or 0) if kind == _FLUSH else 0)
        elif kind not in (_FORGET, _INTERRUPT):
            self._say(unique, error=errno.ENOSYS)

    def _say(self, unique: int, body: bytes = b"", error: int = 0) -> None:
        with contextlib.suppress(OSError):
            os.write(self._device, _OUT.pack(_OUT.size + len(body), -error, unique) + body)

    def answer(self) -> None:
        """Let everybody go who waits, now and from now on."""
        self.error, self.silent = 0, False
        with self._lock:
            unanswered, self._unanswered = self._unanswered, []
        for unique, error in unanswered:
            self._say(unique, error=error)


@contextlib.contextmanager
def slow_files(directory: Path) -> Iterator[SlowFiles]:
    """Mounted there while this lasts; any name in it is the file."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"/dev/fuse: {error}")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if _libc.mount(b"slow", os.fsencode(directory), b"fuse", 0, options.encode()) != 0:
        os.close(device)
        pytest.skip(f"mount(2): {os.strerror(ctypes.get_errno())}")
    files = SlowFiles(device)
    thread = threading.Thread(target=files.serve, daemon=True)
    thread.start()
    try:
        yield files
    finally:
        files.answer()
        _libc.umount2(os.fsencode(directory), _DETACH)
        thread.join(60)
        os.close(device)
