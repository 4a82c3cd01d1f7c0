"""Tell which variables a word admits that assigns one, as in `env NAME=value`."""

import re
from typing import Final

from rootwrap_daemon.filters.variables import DANGEROUS_VARIABLES, is_dangerous_variable
from rootwrap_daemon.lint.knowledge import regexes

_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OPTION: Final = re.compile("--setenv=|-E(?=.)")
#: One variable of each family whose names have a beginning in common.
_EXAMPLES: Final = frozenset(
    "BASH_ENV DYLD_INSERT_LIBRARIES GIT_SSH JAVA_TOOL_OPTIONS LD_PRELOAD LESSOPEN LUA_INIT OPENSSL_CONF "
    "PERL5OPT PYTHONPATH RCLONE_PASSWORD_COMMAND RUBYOPT SVN_SSH".split()
)


def dangerous(text: str) -> str | None:
    """A dangerous variable that a pattern of an assignment admits with a value that it leaves open.

    Behind `--setenv=` of systemd-run(1) a name alone is one, too: its value is the program's own.
    """
    option = _OPTION.match(text)
    name, equals, value = text[option.end() if option else 0 :].partition("=")
    if option and not equals:
        equals, value = "=", ".*"
    pattern = regexes.compiled(value) if value else None
    if not equals or (pattern is not None and pattern.literal is not None):
        return None
    if _NAME.fullmatch(name):
        return name if is_dangerous_variable(name) else None
    return next((one for one in sorted(DANGEROUS_VARIABLES | _EXAMPLES) if regexes.admits(name, one)), None)
