"""Print findings as text, JSON or SARIF, and rules as a manual."""
