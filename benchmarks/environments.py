"""The peers' virtual environments, made from their pinned requirements when they are first needed, and kept.

They are in the user's cache, each in a folder named by a hash of what went into it: a changed pin makes a new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

__all__ = ["ROOT", "Unavailable", "cache_dir", "python_of", "versions_of"]

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).resolve().parent / "peers"
# Installed from this checkout rather than by a pin: the code, and its compiled engine where it was built.
CHECKOUT = "otelagent"
NATIVE = ROOT / "native" / "python"


class Unavailable(Exception):
    """An environment that can't be made here; the text says why, in a line."""


def cache_dir() -> Path:
    """Where the environments are: ``$XDG_CACHE_HOME/otelagent/benchmarks``, usually below ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "otelagent" / "benchmarks"


def python_of(environment: str, say: Callable[[str], None]) -> Path:
    """The interpreter of an environment, which is made if it isn't there.

    :param environment: the name of a file of requirements.
    :param say: hears of progress.
    :raises Unavailable: it can't be installed on this machine.
    """
    folder = cache_dir() / f"{environment}-{_key(environment)}"
    python = folder / "bin" / "python"
    if (folder / ".ready").exists():
        return python
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / ".ready").exists():  # by another run, meanwhile
            return python
        say(f"environment {environment}: installing into {folder.name}")
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        arguments = ["-r", str(REQUIREMENTS / f"{environment}.txt")]
        if environment == CHECKOUT:
            arguments += ["-e", str(ROOT)]
        _run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments)
        if environment == CHECKOUT:
            site = _run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
            (Path(site) / "otelagent-native-checkout.pth").write_text(f"{NATIVE}\n")
        (folder / ".ready").touch()
        say(f"environment {environment}: ready")
    return python


def versions_of(environment: str) -> dict[str, str]:
    """The pinned versions, by distribution."""
    lines = (REQUIREMENTS / f"{environment}.txt").read_text().splitlines()
    pins = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name: version for name, _, version in pins}


def _key(environment: str) -> str:
    parts = [
        (REQUIREMENTS / f"{environment}.txt").read_bytes(),
        sys.version.encode(),
        sysconfig.get_platform().encode(),
    ]
    if environment == CHECKOUT:
        project = (ROOT / "pyproject.toml").read_text().partition("[dependency-groups]")[0]
        parts += [project.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Unavailable(lines[-1] if lines else f"exit code {done.returncode}")
    return done.stdout
