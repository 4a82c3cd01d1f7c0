"""Load a policy from files and names; the process that serves loads nothing of it."""
