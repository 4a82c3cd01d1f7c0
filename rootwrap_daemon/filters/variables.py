"""Tell the environment variables that make a program run other code or read other files."""

import re
from typing import Final

#: Variables that change how programs load code or find files (ld.so(8), bash(1), environ(7), ...): a filter
#: may name one, and is warned; nothing else lets one through.
DANGEROUS_VARIABLES: Final = frozenset(
    """
    ANSIBLE_CONFIG APT_CONFIG AWKLIBPATH AWKPATH AWS_CONFIG_FILE BORG_PASSCOMMAND BORG_REMOTE_PATH BORG_RSH
    BROWSER BUNDLE_GEMFILE CARGO_HOME CC CDPATH CLASSPATH COMPILER_PATH CURL_HOME CVS_RSH CXX
    DBUS_SESSION_BUS_ADDRESS DBUS_SYSTEM_BUS_ADDRESS DEBCONF_DB_OVERRIDE DEBCONF_DB_REPLACE DEBIAN_FRONTEND
    DOCKER_CONFIG DOCKER_HOST EBTABLES_LIB_DIR EDITOR ENV EXINIT GCC_EXEC_PREFIX GCONV_PATH GEM_HOME GEM_PATH
    GETCONF_DIR GIO_EXTRA_MODULES GLIBC_TUNABLES GNUPGHOME GOFLAGS GOPATH GRADLE_OPTS GTK_MODULES
    GUILE_LOAD_PATH HOME HOSTALIASES IFS INPUTRC IP6TABLES_LIB_DIR IPTABLES_LIB_DIR IP_LIB_DIR
    JDK_JAVA_OPTIONS KRB5CCNAME KRB5_CONFIG KRB5_TRACE KUBECONFIG LIBVIRT_DEFAULT_URI LOCALDOMAIN LOCPATH
    LVM_SYSTEM_DIR MAILRC MAKEFILES MAKEFLAGS MALLOC_TRACE MANPAGER MAVEN_OPTS MODPROBE_OPTIONS MYSQL_HOME
    NETRC NIS_PATH NLSPATH NODE_OPTIONS NODE_PATH ODBCINI ODBCSYSINI PAGER PATH PGSERVICEFILE PGSYSCONFDIR
    PHPRC PHP_INI_SCAN_DIR PIP_CONFIG_FILE PROMPT_COMMAND PS4 PSQLRC QT_PLUGIN_PATH RESOLV_HOST_CONF
    RESTIC_PASSWORD_COMMAND RES_OPTIONS RSH RSYNC_CONNECT_PROG RSYNC_RSH RUSTC_WRAPPER R_LIBS SASL_PATH
    SCREENRC SHELL SHELLOPTS SSH_ASKPASS SSH_AUTH_SOCK SSLKEYLOGFILE SUDO_ASKPASS SUDO_EDITOR SYSTEMD_EDITOR
    SYSTEMD_PAGER TAPE TAR_OPTIONS TCLLIBPATH TC_LIB_DIR TERMCAP TERMINFO TERMINFO_DIRS TERMPATH TMPDIR TZDIR
    VIMINIT VISUAL WGETRC XTABLES_LIBDIR ZDOTDIR _JAVA_OPTIONS
    """.split()
)
DANGEROUS_PREFIXES: Final = tuple(
    "BASH DYLD_ GIT_ JAVA_ LD_ LESS LUA_ OPENSSL_ PERL PYTHON RCLONE_ RUBY SVN_ XDG_CONFIG_ XDG_DATA_".split()
)
#: Variables that name a proxy, in whatever case.
PROXIES: Final = frozenset(("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "rsync_proxy"))
#: Variables from whose value a path is made: locale(7), gettext(3), terminfo(5). With a slash it names a file
#: of the caller's, whose texts a program gives to printf(3); sudo(8) refuses such values, too.
_NAMES_OF_FILES: Final = frozenset("LANG LANGUAGE TERM COLORTERM".split())
_NAME_OF_FILE = re.compile("[A-Za-z0-9_.:@+-]*", re.ASCII)
#: A zone below /usr/share/zoneinfo, or its rules: tzset(3).
_TIME_ZONE = re.compile(r"(?!.*\.\.)[A-Za-z0-9_+<,-][A-Za-z0-9_+<>,./:-]*|", re.ASCII)


def is_dangerous_variable(name: str) -> bool:
    """True if a value of this variable can make a program run other code, read other files, or ask others."""
    return name in DANGEROUS_VARIABLES or name.startswith(DANGEROUS_PREFIXES) or name.lower() in PROXIES


_ASSIGNED = re.compile(r"(?:^-E|\b)([A-Za-z_]\w*)=", re.ASCII)


def of_code(word: str) -> list[str]:
    """Return what follows `NAME=` of dangerous variables, behind an option or in a shell's text, too."""
    return [word[one.end() :] for one in _ASSIGNED.finditer(word) if is_dangerous_variable(one[1])]


def may_hold(name: str, value: str) -> bool:
    """False for a value that a caller may never give this variable, whatever a filter says of its type."""
    if name in _NAMES_OF_FILES or name.startswith("LC_"):
        return _NAME_OF_FILE.fullmatch(value) is not None
    if name == "TZ":
        return _TIME_ZONE.fullmatch(value) is not None
    return True


def is_printable_ascii(value: str) -> bool:
    """True for printable ASCII, blanks and the empty text."""
    return value.isascii() and value.isprintable()
