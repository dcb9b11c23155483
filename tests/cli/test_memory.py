"""What a process frees stays with it, where the C library can be told so."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from unmask.cli.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import torch
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24).add_(1)
before = faults()
for _ in range(10):
    torch.ones(2**24).add_(1)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_not_fetched_again():
    """Ten times 64 MiB are 163,840 pages; kept, most of them are there already."""
    pages = {}
    for mode in ("keep", "plain"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True
        )
        pages[mode] = int(done.stdout)
    if pages["plain"] < 1000:
        pytest.skip("this system does not count faults, or has pages of 2 MiB")
    assert pages["keep"] < pages["plain"] / 2
