"""Ask a policy questions: explain, list, test, compare and suggest."""
