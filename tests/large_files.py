"""Fails if a file given on the command line is above 1 MB and not part of the bundled model."""

import sys
from pathlib import Path

LIMIT = 1_000_000

large = [
    name
    for name in sys.argv[1:]
    if Path(name).is_file() and Path(name).stat().st_size > LIMIT and "bundled" not in name
]
for name in large:
    print(f"{name} is larger than {LIMIT:,} bytes")
sys.exit(bool(large))
