"""What the agent adds to the start of a process: a program that imports FastAPI, bare and under each wrapper.

``python startup.py VARIANT`` prints one JSON line. The child's whole CPU time is measured, so both interpreters of a
wrapper that starts a second one count.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

VARIANTS = ("bare", "otelagent_run")
PROGRAM = ("-c", "import fastapi")


def main() -> None:
    """Measure one start."""
    here = os.path.dirname(sys.executable)
    prefix = {
        "bare": [],
        "otelagent_run": [os.path.join(here, "otelagent-run"), "--exporter=none", "--quiet"],
    }[sys.argv[1]]
    began = time.perf_counter()
    subprocess.run([*prefix, sys.executable, *PROGRAM], check=True)
    wall = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"wall_ms": wall * 1e3, "cpu_ms": (usage.ru_utime + usage.ru_stime) * 1e3}))


if __name__ == "__main__":
    main()
