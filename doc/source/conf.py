"""What Sphinx needs to know; the pages are plain reStructuredText and read well without it."""

project = "rootwrap-daemon"

# For packagers: sphinx-build -b man doc/source doc/build/man
man_pages = [
    ("man/rootwrap-daemon", "rootwrap-daemon", "run commands for unprivileged services", "", 8),
    ("man/rootwrapctl", "rootwrapctl", "check, explain and test filters; look after the daemon", "", 8),
    ("man/rootwrap-exec", "rootwrap-exec", "have a command run by rootwrap-daemon", "", 1),
    ("man/rootwrap-bridge", "rootwrap-bridge", "answer oslo.rootwrap's client", "", 1),
]
