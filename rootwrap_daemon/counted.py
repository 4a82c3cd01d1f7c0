"""Write a number with what it counts: `1 filter`, `2 filters`."""


def counted(number: int, noun: str) -> str:
    """The number and the noun, with an s unless the number is 1."""
    return f"{number} {plural(number, noun)}"


def plural(number: int, noun: str) -> str:
    """The noun alone, with an s unless the number is 1."""
    return noun if number == 1 else f"{noun}s"
