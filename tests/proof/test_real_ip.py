"""The real ip(8) does with no words that an IpFilter allows what that says it cannot."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.proof.real_ip import try_out


@pytest.fixture(autouse=True)
def _programs() -> None:
    for program in ("ip", "strace", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if subprocess.run(
        ["unshare", "-Urnmpf", "--mount-proc", "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("there are no user namespaces here")


def test_what_is_harmless_is(tmp_path: Path) -> None:
    _, wrong = try_out(random.Random("ip"), tmp_path, 200)
    assert wrong == []


def test_what_is_not_is_seen(tmp_path: Path) -> None:
    """Without the judge: executed programs, files in its directory, eBPF."""
    _, wrong = try_out(random.Random("ip"), tmp_path, 200, lambda words: True)
    for call in ("execve(", "openat(", "bpf("):
        assert any(one.startswith(call) for _, one in wrong), call
