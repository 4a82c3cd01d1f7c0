"""daemon/run/output.py: bytes in order, in as much memory as they are."""

import random
import tracemalloc

import pytest

from rootwrap_daemon.daemon.run.output import Output


def test_bytes_in_order() -> None:
    source = random.Random(7)
    for _ in range(300):
        parts = [
            source.randbytes(source.choice((1, 5, 4095, 4096, 9000))) for _ in range(source.randrange(8))
        ]
        output = Output()
        for part in parts:
            output.add(part)
        assert output.taken() == b"".join(parts)
        assert output.taken() == b""


@pytest.mark.parametrize("sizes", [(1,), (1, 4096), (100, 1, 5000), (4095,)], ids=str)
def test_memory_is_that_of_the_bytes(sizes: tuple[int, ...]) -> None:
    size = 0
    tracemalloc.start()
    try:
        output = Output()
        while size < 300_000:
            for one in sizes:
                output.add(b"x" * one)
                size += one
        assert tracemalloc.get_traced_memory()[0] < size * 9 / 8 + 4096
    finally:
        tracemalloc.stop()
