"""What Sphinx needs to know; the pages are plain reStructuredText and read well without it."""

project = "rootwrap-daemon"
