"""Look at paths as text, as filters name programs and files by them."""


def basename(path: str) -> str:
    """The last component of a path."""
    return path.rpartition("/")[2]


def is_normal_path(path: str) -> bool:
    """True for an absolute path without `.`, `..`, `//` and a slash at its end."""
    return path.startswith("/") and not any(part in ("", ".", "..") for part in path[1:].split("/"))
