"""The process that is measured, in the peer's environment.

``python -m benchmarks.child QUESTION PART PEER SINK [quick]`` prints a line of JSON for each sample.
"""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.samples import Context, write


def main() -> None:
    """One part of one question for one peer, once."""
    question, part, peer, address, *quick = sys.argv[1:]
    for sample in import_module(f"benchmarks.{question}").measure(Context(peer, address, bool(quick)), part):
        print(write(sample), flush=True)


if __name__ == "__main__":
    main()
