"""Tell the environment variables that make a program run other code or read other files."""

from typing import Final

#: Variables that change how programs load code or find files (ld.so(8), bash(1), environ(7), ...): a filter
#: may name one, and is warned; nothing else lets one through.
DANGEROUS_VARIABLES: Final = frozenset(
    """
    AWKPATH AWKLIBPATH BASH_ENV CDPATH CLASSPATH CURL_HOME DBUS_SESSION_BUS_ADDRESS DBUS_SYSTEM_BUS_ADDRESS
    EDITOR ENV GCONV_PATH GETCONF_DIR GIT_CONFIG GIT_CONFIG_GLOBAL GIT_EXEC_PATH GIT_SSH GIT_SSH_COMMAND
    GLIBC_TUNABLES GOPATH HOME HOSTALIASES IFS INPUTRC IP_LIB_DIR JAVA_TOOL_OPTIONS KRB5_CONFIG KRB5CCNAME
    LESSCLOSE LESSOPEN LOCALDOMAIN LOCPATH LVM_SYSTEM_DIR MALLOC_TRACE MANPAGER MODPROBE_OPTIONS NIS_PATH
    NLSPATH NODE_OPTIONS NODE_PATH OPENSSL_CONF OPENSSL_ENGINES OPENSSL_MODULES PAGER PATH PROMPT_COMMAND PS4
    RES_OPTIONS RESOLV_HOST_CONF SHELL SHELLOPTS BASHOPTS SSLKEYLOGFILE SSH_AUTH_SOCK SYSTEMD_PAGER
    TC_LIB_DIR TERMCAP TERMINFO TERMINFO_DIRS TERMPATH TMPDIR TZDIR VISUAL XTABLES_LIBDIR
    IPTABLES_LIB_DIR IP6TABLES_LIB_DIR EBTABLES_LIB_DIR http_proxy https_proxy ftp_proxy all_proxy
    """.split()
)
DANGEROUS_PREFIXES: Final = ("LD_", "DYLD_", "PYTHON", "PERL", "RUBY", "BASH_FUNC_", "GIT_", "LUA_")


def is_dangerous_variable(name: str) -> bool:
    """True if a value of this variable can make a program run other code or read other files."""
    return name in DANGEROUS_VARIABLES or name.startswith(DANGEROUS_PREFIXES)


def is_printable_ascii(value: str) -> bool:
    """True for printable ASCII, blanks and the empty text."""
    return value.isascii() and value.isprintable()
