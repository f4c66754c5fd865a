"""The version of an installed library, and whether it is one that an instrumentation supports.

`importlib.metadata` and `packaging` know all there is to know of both, and cost up to 15 ms to import. What nearly
every library has, a metadata directory with a plain release such as 2.11.0 in its name, and ranges such as ``>=2,<3``
need neither; everything else is asked of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

__all__ = ["installed_version", "is_within"]


def installed_version(distribution: str, path: Iterable[str] | None = None) -> str | None:
    """The version of the first distribution of that name on the import path; None where there is none.

    :param path: directories to look in; `sys.path` by default.
    """
    places = list(sys.path if path is None else path)
    version = _by_directory(distribution, places)
    if version is not None:
        return version
    from importlib.metadata import distributions

    return next((found.version for found in distributions(name=distribution, path=places)), None)


def is_within(version: str, specifiers: str) -> bool:
    """Whether a version is in a PEP 440 specifier set; a pre-release is where its number puts it."""
    release = _release(version)
    if release is not None:
        inside = True
        for specifier in specifiers.split(","):
            specifier = specifier.strip()
            lower = specifier.startswith(">=")
            bound = _release(specifier[2:] if lower else specifier[1:])
            if bound is None or not (lower or specifier.startswith("<")):
                break
            inside = inside and (release >= bound) is lower
        else:
            return inside
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifiers).contains(version, prereleases=True)


def _by_directory(distribution: str, places: Iterable[str]) -> str | None:
    """The version in the name of a ``.dist-info`` directory; None where another place or form may come first."""
    key = _key(distribution)
    for place in places:
        try:
            names = os.listdir(place or ".")
        except FileNotFoundError:
            continue
        except OSError:
            return None  # an archive
        found = [
            name for name in names if name.endswith((".dist-info", ".egg-info")) and _key(name.split("-")[0]) == key
        ]
        if found:
            version = found[0].removesuffix(".dist-info").partition("-")[2]
            return version if len(found) == 1 and _release(version) is not None else None
    return None


def _key(name: str) -> str:
    return "_".join(part for part in name.lower().replace("-", "_").replace(".", "_").split("_") if part)


def _release(version: str) -> tuple[int, ...] | None:
    """The numbers of a plain release, without zeros at the end, which don't count; None for any other version."""
    numbers = version.strip().split(".")
    if not all(number.isdecimal() and number.isascii() for number in numbers):
        return None
    release = [int(number) for number in numbers]
    while release and not release[-1]:
        release.pop()
    return tuple(release)
