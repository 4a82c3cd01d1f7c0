"""The rules that filter files are judged by, and how their findings are shown."""
