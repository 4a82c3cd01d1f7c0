"""Read the text of filter files; the process that serves loads nothing of it."""
