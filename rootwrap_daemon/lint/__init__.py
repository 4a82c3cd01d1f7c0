"""Check filter files by rules, and show the findings."""
