"""How a process starts on a large backlog: `python -m tests.delivery.spool.backlog [GIGABYTES] [DIRECTORY]`.

Prints how long adopting takes, how much memory the process has before, after, and after replaying a part.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from otelagent.delivery.spool.spool import SpoolLimits
from tests.delivery.spool.disk import Disk

LIMITS = SpoolLimits(max_bytes=64 * 1024**3)
RECORD_BYTES = 128 * 1024


def resident_mib() -> float:
    """This process's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def write(directory: Path, size: int) -> None:
    """Leaves a backlog as a killed process does."""
    disk = Disk(directory, LIMITS)
    data = os.urandom(RECORD_BYTES)
    for _ in range(size // RECORD_BYTES):
        assert disk.append(data, 512)
    disk.die()


def start(directory: Path) -> None:
    """Starts on it."""
    Disk(directory / "nothing", LIMITS).append(b"warm")  # Its imports.
    disk = Disk(directory, LIMITS)
    before_mib, begun_s = resident_mib(), time.perf_counter()
    disk.adopt()
    took_s, adopted_mib = time.perf_counter() - begun_s, resident_mib()
    items = disk.spool.items()
    begun_s = time.perf_counter()
    for _ in range(4096):
        if disk.spool.next() is None:
            break
        disk.spool.settle()
    read_s, read_mib = time.perf_counter() - begun_s, resident_mib()
    disk.die()
    print(
        f"adopted {items:,} items in {took_s * 1000:.0f} ms; replayed {4096 * RECORD_BYTES >> 20} MiB in {read_s:.1f} s"
    )
    print(f"memory: {before_mib:.1f} MiB before, {adopted_mib:.1f} adopted, {read_mib:.1f} after the replay")


def main() -> None:
    """Both, the second in a process of its own."""
    size = int(float(sys.argv[1]) * 1024**3) if len(sys.argv) > 1 else 2 * 1024**3
    if size < 0:
        start(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as temporary:
        directory = Path(temporary) / "spool"
        write(directory, size)
        subprocess.run([sys.executable, "-m", "tests.delivery.spool.backlog", "-1", str(directory)], check=True)


if __name__ == "__main__":
    main()
