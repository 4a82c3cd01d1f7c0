"""Escape what is not printable, so that no text moves a terminal's cursor or turns a line around."""


def printable(text: str, keep: str = "") -> str:
    """The text with every unprintable character, but those of `keep`, as Python writes it in a string."""
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)
