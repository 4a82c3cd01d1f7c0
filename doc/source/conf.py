"""What Sphinx needs to know; the pages are plain reStructuredText and read well without it."""

import importlib.util
import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE.parent), str(_HERE.parents[1])]

import generate  # noqa: E402 - beside this directory; it finds the package in the checkout

generate.write(_HERE / "reference")

project = "rootwrap-daemon"
project_copyright = "rootwrap-daemon contributors"
extensions = ["sphinx.ext.autodoc"]
# Docstrings have code in single backquotes; an option stays two hyphens.
default_role = "code"
smartquotes = False
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
# Only on the page of the Python API, which needs nothing but what a client loads.
autodoc_mock_imports = ["eventlet"]

# Each reference leads somewhere, but types of the standard library and those that no agent names.
nitpicky = True
nitpick_ignore_regex = [("py:class", r"os\..*|collections\..*|rootwrap_daemon\.client\.(pipes|request)\..*")]

# Readable on a phone and in the dark; without it what Sphinx has. All works without a network, search too.
html_theme = "furo" if importlib.util.find_spec("furo") else "alabaster"
html_title = "rootwrap-daemon"
# Pictures of measurements, where there are some: measured.rst.
html_static_path = ["_static"] if (_HERE / "_static").is_dir() else []
# Most blocks are commands, and output. What is code says so.
highlight_language = "none"
html_copy_source = False
html_show_sourcelink = False

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
