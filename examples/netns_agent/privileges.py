"""Giving up root for good, before anything is listened to.

Promises: after `drop` neither this process nor what it executes has or gains a capability, or it raises.
Imports the standard library.
"""

import ctypes
import os
import struct
from pathlib import Path

# The numbers of linux/prctl.h, securebits.h and capability.h; see prctl(2) and capabilities(7).
_PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS = 24, 28, 38
_SECBIT_NOROOT_LOCKED = 0b11
_CAPABILITY_VERSION_3 = 0x20080522

_LIBC = ctypes.CDLL(None, use_errno=True)


def drop(uid: int, gid: int) -> None:
    """Become this user, without groups and without any capability. Raises OSError or RuntimeError."""
    # Capabilities belong to a thread; what is called here changes the calling one alone.
    if _status()["Threads"] != "1":
        raise RuntimeError("privileges can be given up only while there is one thread")
    # uid 0 shall mean nothing by itself: in a user namespace with one uid it is what stays.
    _call("prctl", _PR_SET_SECUREBITS, _SECBIT_NOROOT_LOCKED, 0, 0, 0)
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
    # Who we are already is not set again: in a namespace with one uid setgroups(2) is refused.
    if (os.getuid(), os.getgid()) != (uid, gid):
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _call("capset", struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _verify(uid, gid)


def _verify(uid: int, gid: int) -> None:
    status = _status()
    wrong = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    wrong += [
        name for name, value in (("Uid", uid), ("Gid", gid)) if status[name].split() != [str(value)] * 4
    ]
    if status["NoNewPrivs"] != "1":
        wrong.append("NoNewPrivs")
    if wrong:
        raise RuntimeError(f"privileges are left: {', '.join(f'{name} {status[name]}' for name in wrong)}")


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _call(function: str, *arguments: int | bytes) -> None:
    longs = (ctypes.c_ulong(word) if isinstance(word, int) else word for word in arguments)
    if getattr(_LIBC, function)(*longs):
        code = ctypes.get_errno()
        raise OSError(code, f"{function}{arguments[:2]}: {os.strerror(code)}")
