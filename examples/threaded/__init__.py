"""An unprivileged program of native threads: every namespace's links, asked for side by side."""
