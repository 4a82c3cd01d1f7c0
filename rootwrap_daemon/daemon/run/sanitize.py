"""Takes what looks like a secret out of captured output, for filters that ask for it.

Promises: bytes that are no secret come back as they were. Loads oslo_utils.strutils at its first use alone:
that compiles some hundred patterns.
"""

from typing import Final

#: Bytes of output that may be looked through: each takes its share of some hundred patterns.
MOST: Final = 256 * 1024


def without_secrets(data: bytes) -> bytes:
    """The same output, secrets replaced by `***`, as oslo_utils.strutils.mask_password finds them."""
    from oslo_utils import strutils

    text = data.decode("utf-8", "surrogateescape")
    return strutils.mask_password(text).encode("utf-8", "surrogateescape")
