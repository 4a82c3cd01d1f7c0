"""Put the files of an installation in place, record them, and take them away again.

Promises: a file that an administrator changed is neither replaced nor removed; nothing is written where
others than root could have prepared a link.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import owned

#: Where it is written down what was put, below the root of the installation.
RECORD: Final = "/var/lib/rootwrap-daemon/installed.json"


@dataclass(slots=True)
class Record:
    """A record of what was put: the sum of each file, and the instances that need it or a directory."""

    sums: dict[str, str] = field(default_factory=dict)
    users: dict[str, list[str]] = field(default_factory=dict)

    def of(self, instance: str) -> list[str]:
        """Paths that are there for this instance."""
        return [path for path, users in self.users.items() if instance in users]

    def add(self, path: str, instance: str) -> None:
        """This path is there for this instance, too."""
        users = self.users.setdefault(path, [])
        if instance not in users:
            users.append(instance)

    def drop(self, path: str, instance: str) -> bool:
        """True if no instance needs the path any more."""
        users = self.users[path]
        users.remove(instance)
        if users:
            return False
        del self.users[path]
        return True


class Placer:
    """Puts and removes below `root`, telling each step to `say`; with `dry`, only tells."""

    def __init__(self, root: str, say: Callable[[str], None], *, dry: bool) -> None:
        """Raises ConfigurationError if the record cannot be read."""
        self._root = os.path.realpath(root).rstrip("/")
        self._owners = host.base_owners()
        self._say = say
        self._dry = dry
        #: A file was put or renewed.
        self.changed = False
        self.record = self._read_record()

    def real(self, path: str) -> str:
        """Return where `path`, absolute inside the root, is from here."""
        return self._root + path

    def put_directory(self, path: str, instance: str) -> None:
        """Make a directory of root, 0755, and those above it. Raises ConfigurationError or OSError."""
        real = self.real(path)
        if self._dry and path in self.record.users:
            return
        if os.path.isdir(real):
            if path in self.record.users:
                self.record.add(path, instance)
            self._trusted(path)
            return
        self.put_directory(os.path.dirname(path), instance)
        self._say(f"make  {real}/")
        self.record.add(path, instance)
        self._save()
        if not self._dry:
            os.mkdir(real)
            os.chmod(real, 0o755)  # noqa: S103 - everybody may read what is allowed

    def put(self, path: str, text: str, instance: str) -> None:
        """Put a file of root, 0644, unless something of somebody else is there. Raises as `put_directory`."""
        self.put_directory(os.path.dirname(path), instance)
        real = self.real(path)
        now, new = _sum_of(real), _sum(text.encode())
        recorded = self.record.sums.get(path)
        if now is not None and now != new and now not in (recorded or "").split():
            self._say(f"keep  {real}: not as it was put there, or not put by this program")
            return
        if now == new:
            self._say(f"keep  {real}: is as it should be")
            if recorded is not None:
                self.record.sums[path] = new
                self.record.add(path, instance)
                self._save()
            return
        self._say(f"{'renew' if now else 'put  '} {real}")
        self.changed = True
        # First the record, of both: where this ends before the file is written the old one is still known.
        self.record.sums[path] = f"{now} {new}" if now else new
        self.record.add(path, instance)
        self._save()
        if not self._dry:
            self._write(real, text)
            self.record.sums[path] = new
            self._save()

    def remove(self, instance: str) -> None:
        """Take away what is there for this instance alone, and is as it was put. Raises OSError."""
        # The deepest first: a directory after what is in it.
        for path in sorted(self.record.of(instance), key=lambda one: (-one.count("/"), one)):
            if not self.record.drop(path, instance):
                continue
            recorded = self.record.sums.pop(path, None)
            if recorded is None:
                self._remove_directory(path)
            else:
                self._remove_file(path, recorded)
        self._save()

    def _remove_file(self, path: str, recorded: str) -> None:
        real = self.real(path)
        self.check(os.path.dirname(path))
        # An installation that was killed has left it.
        self._drop(_new(real))
        if not os.path.lexists(real):
            return
        if (_sum_of(real) or "none") not in recorded.split():
            self._say(f"leave {real}: it was changed since")
            return
        self._say(f"remove {real}")
        if not self._dry:
            os.unlink(real)

    def _remove_directory(self, path: str) -> None:
        real = self.real(path)
        if not os.path.isdir(real):
            return
        self.check(path)
        if self._dry:
            self._say(f"remove {real}/, if nothing else is in it")
            return
        try:
            os.rmdir(real)
            self._say(f"remove {real}/")
        except OSError:
            self._say(f"leave {real}/: not empty")

    def check(self, path: str) -> None:
        """Refuse a directory that leads out of the root, or others than root can change.

        Where it is not there, the next above that is. Raises ConfigurationError.
        """
        while path != "/" and not os.path.lexists(self.real(path)):
            path = os.path.dirname(path)
        self._trusted(path)

    def _trusted(self, path: str) -> None:
        try:
            found = host.resolve_owned(self.real(path) or "/", self._owners).path
        except (OSError, host.UntrustedPath) as error:
            raise ConfigurationError(f"{self.real(path)}: {error}: give it to root, mode 0755") from error
        if not f"{found}/".startswith(f"{self._root}/"):
            real = self.real(path)
            raise ConfigurationError(f"{real} leads to {found}, out of {self._root}: remove the link")

    def _write(self, real: str, text: str) -> None:
        new = _new(real)
        self._drop(new)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, 0o644)
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.rename(new, real)
        except BaseException:
            self._drop(new)
            raise

    def _drop(self, path: str) -> None:
        if os.path.lexists(path) and not self._dry:
            os.unlink(path)

    def _read_record(self) -> Record:
        path = self.real(RECORD)
        self.check(os.path.dirname(RECORD))
        try:
            with open(owned.open_owned(path, self._owners), encoding="utf-8") as file:
                return _record(json.load(file))
        except FileNotFoundError:
            return Record()
        except (OSError, host.UntrustedPath, ValueError) as error:
            what = "repair it, or take away by hand what is there"
            raise ConfigurationError(f"{path}: {error}: {what}") from error

    def _save(self) -> None:
        if self._dry:
            return
        path = self.real(RECORD)
        directory = os.path.dirname(path)
        if self.record.users:
            os.makedirs(directory, 0o755, exist_ok=True)
            self._write(path, json.dumps({"sums": self.record.sums, "users": self.record.users}, indent=1))
        elif os.path.lexists(path):
            os.unlink(path)
            self._drop(_new(path))
            os.rmdir(directory)


def _new(real: str) -> str:
    """The name of a file until it is written."""
    return f"{os.path.dirname(real)}/.{os.path.basename(real)}.new"


def _record(value: Any) -> Record:
    try:
        sums = {str(path): str(digest) for path, digest in value["sums"].items()}
        users = {str(path): [str(one) for one in names] for path, names in value["users"].items()}
    except (KeyError, TypeError, AttributeError):
        raise ValueError("no record of an installation") from None
    if any(not path.startswith("/") or ".." in path.split("/") for path in (*sums, *users)):
        raise ValueError("a path in it is not absolute")
    return Record(sums, users)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sum_of(path: str) -> str | None:
    """The sum of a file, None if there is none, "" for anything that is no file."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return ""
        with open(path, "rb") as file:
            return _sum(file.read())
    except FileNotFoundError:
        return None
