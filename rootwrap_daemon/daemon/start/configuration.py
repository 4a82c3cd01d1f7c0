"""The daemon's configuration: FILE, then FILE.d/*.conf in the order of their names.

Promises: nothing is read that anybody but trusted owners can change, and nothing that names code to call.
Imports config, errors and policy.host; oslo.log for the names of its options.
"""

import logging
import os
from typing import Final

from oslo_config import cfg
from oslo_log import log

from rootwrap_daemon import config
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host

LOG = logging.getLogger(__name__)

#: What is taken once, at the start.
_AT_START: Final = (
    "socket_path",
    "socket_mode",
    "socket_group",
    "capabilities",
    "audit_file",
    "audit",
    "state_dir",
    "rlimit_nofile",
)


def read(config_file: str, owners: frozenset[int]) -> cfg.ConfigOpts:
    """What `config_file`, an absolute path, and its drop-ins say; the last one that sets an option counts.

    Raises ConfigurationError.
    """
    # First: what is wrong with its directory is wrong with that of the drop-ins, which need not be there.
    _judge(config_file, owners)
    drop_ins = _drop_ins(f"{config_file}.d", owners)
    for path in drop_ins:
        _judge(path, owners)
    conf = config.new_conf(config_file, log.register_options, drop_ins)
    if conf.log_config_append:
        # Such a file names classes and arguments to call: it is code.
        raise ConfigurationError(
            f"{config_file} or its drop-ins: log_config_append names code, and is not read: take it out"
        )
    return conf


def report_changes(before: config.Settings, after: config.Settings) -> None:
    """Log which of the settings that a reload brought wait for a restart."""
    changed = [name for name in _AT_START if getattr(before, name) != getattr(after, name)]
    if changed:
        LOG.warning("changed, and in force after the next start only: %s", ", ".join(changed))


def _judge(path: str, owners: frozenset[int]) -> None:
    try:
        # To open it is to judge it, as a filter file; only its owners can change it until it is read.
        os.close(host.open_owned(path, owners))
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(
            f"{path}: {error}: it and all directories above must be such that only root can write them"
        ) from error


def _drop_ins(directory: str, owners: frozenset[int]) -> list[str]:
    try:
        found = host.resolve_owned(directory, owners).path
        names = sorted(os.listdir(found))
    except FileNotFoundError:
        return []
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(
            f"{directory}: {error}: it must be a directory that only root can write"
        ) from error
    files = []
    for name in names:
        if name.endswith(".conf") and not name.startswith("."):
            files.append(f"{found}/{name}")
        else:
            # Editors and packagers leave such: x~, x.conf.rpmsave, .x.swp.
            LOG.warning("%s/%s: not read, by its name: end it in .conf, or move it away", found, name)
    return files
