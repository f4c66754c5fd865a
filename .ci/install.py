"""Installs the wheels in a folder into an environment of its own and lets them trace, without and with the engine.

    python .ci/install.py PYTHON DIST

Each time the engine `auto` must be the best of those that are installed, and a span must be in the exporter's file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
PROGRAM = """
import platform, otelagent
otelagent.init(service_name="tried", exporter="file", file="spans.jsonl", quiet=True)
with otelagent.span("work", {"n": 1}):
    pass
assert otelagent.flush(10)
print(platform.python_version(), otelagent.status()["engine"]["name"])
otelagent.shutdown()
"""


def main() -> int:
    python, dist = sys.argv[1], Path(sys.argv[2]).resolve()
    (wheel,) = dist.glob("otelagent-*-none-any.whl")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/env/bin/python"
        subprocess.run([python, "-m", "venv", f"{folder}/env"], check=True)
        pip: list[str | Path] = [program, "-m", "pip", "--disable-pip-version-check", "-q", "install"]

        subprocess.run([*pip, "-c", CONSTRAINTS, wheel], check=True)
        check(program, "sdk")
        # What is ours comes from the folder alone: no index could have it.
        subprocess.run([*pip, "--no-index", "--no-deps", "--find-links", dist, "otelagent-native"], check=True)
        subprocess.run([*pip, "--no-index", f"otelagent[native] @ {wheel.as_uri()}"], check=True)
        check(program, "native")
    return 0


def check(program: str, engine: str) -> None:
    """Fails unless a program whose engine is `auto` records a span by this one."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL", "PYTHON"))}
        done = subprocess.run([program, "-c", PROGRAM], cwd=folder, env=environ, check=True, stdout=PIPE, text=True)
        version, recorded_by = done.stdout.split()
        (request,) = Path(folder, "spans.jsonl").read_text().splitlines()
    (span,) = json.loads(request)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    if (span["name"], recorded_by) != ("work", engine):
        sys.exit(f"Python {version}: {span['name']} was recorded by the engine {recorded_by}, not {engine}")
    print(f"Python {version}: traces by the engine {engine}")


if __name__ == "__main__":
    sys.exit(main())
