"""What Sphinx needs to know; the pages are plain reStructuredText and read well without it."""

project = "rootwrap-daemon"

# `make man` builds them, before a wheel or a package is made.
man_pages = [
    ("man/rootwrap-daemon", "rootwrap-daemon", "run commands for unprivileged services", "", 8),
    ("man/rootwrapctl", "rootwrapctl", "check, explain and test filters; look after the daemon", "", 8),
    ("man/rootwrap-exec", "rootwrap-exec", "have a command run by rootwrap-daemon", "", 1),
    ("man/rootwrap-sudo", "rootwrap-sudo", "have a command of sudo run by rootwrap-daemon", "", 1),
    ("man/rootwrap-bridge", "rootwrap-bridge", "answer oslo.rootwrap's client", "", 1),
    ("reference/config", "rootwrap-daemon.conf", "the configuration of rootwrap-daemon", "", 5),
    ("reference/filters", "rootwrap-filters", "filter files of rootwrap-daemon", "", 5),
    ("reference/argv", "rootwrap-argv", "patterns of words in filter files of rootwrap-daemon", "", 5),
    ("reference/paths", "rootwrap-paths", "paths in filter files of rootwrap-daemon", "", 5),
]
