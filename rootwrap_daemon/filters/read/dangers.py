"""Say what any value of an environment variable can do.

Promises: every variable that filters/variables.py calls dangerous has a sentence. Sources: environ(7),
ld.so(8), resolv.conf(5), terminfo(5) and the manual page of each program.
"""

from typing import Final

from rootwrap_daemon.filters.variables import PROXIES, is_dangerous_variable

# What a value can do | the variables of which no more is known.
_TABLE: Final = """
have a file written | KRB5_TRACE MALLOC_TRACE SSLKEYLOGFILE TMPDIR
have another server asked | DBUS_SESSION_BUS_ADDRESS DBUS_SYSTEM_BUS_ADDRESS DOCKER_HOST HOSTALIASES
have another server asked | LOCALDOMAIN PGSERVICEFILE PGSYSCONFDIR RESOLV_HOST_CONF RES_OPTIONS
have a server asked with the rights of another | KRB5CCNAME NETRC SSH_AUTH_SOCK
have other files read | CDPATH LOCPATH NLSPATH TERMCAP TERMINFO TERMINFO_DIRS TERMPATH TZDIR
name a configuration that runs other code | AWS_CONFIG_FILE DOCKER_CONFIG GNUPGHOME KRB5_CONFIG KUBECONFIG
run other code, as a part of the name of a module | DEBIAN_FRONTEND
"""
#: Variable -> what any value of it can do; others can run code.
DOES: Final = {
    name: f"can {does.strip()}"
    for does, _, names in (row.partition("|") for row in _TABLE.strip().splitlines())
    for name in names.split()
}


def danger_of(name: str) -> str | None:
    """Return what any value of this variable can do, None if that is not known to be much."""
    if not is_dangerous_variable(name):
        return None
    if name.lower() in PROXIES:
        return "can send what a program fetches through another host"
    return DOES.get(name, "can run other code")
