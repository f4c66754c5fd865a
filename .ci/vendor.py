"""Brings the page's libraries: `python .ci/vendor.py`, which needs npm.

Each is taken from the npm registry in its pinned version, its imports of the others are made relative (the page has no
build step and no import map), and what it is and its hash are written beside it. A test holds the hashes.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[1] / "otelagent" / "viewer" / "page" / "vendor"

# file of ours -> package, its version, the file in it
FILES = {
    "preact.js": ("preact", "11.2.0", "dist/preact.mjs"),
    "hooks.js": ("preact", "11.2.0", "hooks/dist/hooks.mjs"),
    "signals-core.js": ("@preact/signals-core", "1.14.5", "dist/signals-core.mjs"),
    "signals.js": ("@preact/signals", "2.11.4", "dist/signals.mjs"),
    "htm.js": ("htm", "3.1.1", "dist/htm.mjs"),
    "uplot.js": ("uplot", "1.6.32", "dist/uPlot.esm.js"),
    "uplot.css": ("uplot", "1.6.32", "dist/uPlot.min.css"),
}
IMPORTS = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "@preact/signals-core": "./signals-core.js",
}


def main() -> None:
    """Fetches, rewrites, writes."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    known = {}
    for name, (package, version, member) in FILES.items():
        text, licence, notice = fetched(package, version, member)
        text = re.sub(r"\n?//# sourceMappingURL=\S+\s*$", "\n", text)
        for bare, relative in IMPORTS.items():
            text = text.replace(f'from"{bare}"', f'from"{relative}"')
        (VENDOR / name).write_text(text)
        (VENDOR / f"LICENSE.{package.replace('@', '').replace('/', '-')}").write_text(notice)
        known[name] = {
            "package": package,
            "version": version,
            "file": member,
            "licence": licence,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    (VENDOR / "vendor.json").write_text(json.dumps(known, indent=2) + "\n")


def fetched(package: str, version: str, member: str) -> tuple[str, str, str]:
    """A file of a package, the name of its licence, and the licence."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"{package}@{version}"]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        with tarfile.open(Path(folder) / done.stdout.split()[-1]) as archive:

            def text(name: str) -> str:
                found = archive.extractfile(f"package/{name}")
                assert found is not None
                return found.read().decode()

            return text(member), json.loads(text("package.json"))["license"], text("LICENSE")


if __name__ == "__main__":
    main()
