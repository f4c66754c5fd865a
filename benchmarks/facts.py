"""What a result has to be read with: the machine's kind and the versions, without any name or path."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from benchmarks.environments import versions_of
from benchmarks.peers import PEERS

__all__ = ["facts"]

# The distributions that a reader wants to know the version of.
_SHOWN = ("opentelemetry-api", "opentelemetry-sdk", "logfire", "ddtrace", "honeycomb-pycpp", "fastapi", "Flask")


def facts() -> dict[str, object]:
    """JSON values."""
    versions: dict[str, str] = {}
    for environment in dict.fromkeys(peer.environment for peer in PEERS.values()):
        pins = versions_of(environment)
        versions |= {f"{name} ({environment})": pins[name] for name in _SHOWN if name in pins}
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "versions": versions,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
