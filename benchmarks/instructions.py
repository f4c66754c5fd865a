"""Where the instructions of a span go: callgrind counts them, so that noise doesn't matter.

``python -m benchmarks.instructions`` prints a Markdown table. Needs valgrind and cargo: the native engine is built once
more, with its symbols. A count is the difference of a long and a short run, over the spans between them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SHORT, LONG = 2_000, 6_000
CASES = {"no attributes": ("always_on", 0), "five": ("always_on", 5), "five, not sampled": ("always_off", 5)}

# The first that matches `file:function` of a line of callgrind's has it.
GROUPS = {
    "the interpreter: `with`, calls of methods": r"ceval|call\.[ch]|methodobject|descrobject|_PyEval|abstract\.c|frame",
    "the context variable: get, set, reset": r"context\.c|hamt\.c|popcount",
    "dicts: the new Context": r"dictobject\.c",
    "memory and types of the interpreter": r"obmalloc|gcmodule|typeobject|pycore_object|object\.[ch]:",
    "the clock": r"time\.rs|Timespec|SystemTime|clock_gettime|vdso",
    "attributes: checked and encoded": r"attributes::|wire::|convert::",
    "the span, ended and encoded into the queue": r"otelagent_core|span::Span::finish",
    "entering the extension's methods": r"_otelagent_native::ffi",
    "starting, letting go": r"_otelagent_native",
    "the rest: copying, numbers, threads' own data": r"",
}

# Nothing is exported before the end, which is sudden, so that only recording and encoding are counted.
PROGRAM = """
import os, sys
import otelagent
from opentelemetry import trace

otelagent.init(
    engine="native", sampler=sys.argv[1], exporter="file", file=os.devnull,
    batch_schedule_delay_ms=600_000, batch_max_queue_size=100_000, batch_max_export_batch_size=100_000,
)

def spans(tracer, count):
    for number in range(count):
        with tracer.start_as_current_span("benchmark") as span:
            ATTRIBUTES

spans(trace.get_tracer("instructions"), int(sys.argv[2]))
os._exit(0)
"""
FIVE = """span.set_attribute("http.request.method", "GET")
            span.set_attribute("url.path", "/items/42")
            span.set_attribute("http.response.status_code", 200)
            span.set_attribute("item.number", number)
            span.set_attribute("item.price", 9.75)"""


def build(directory: Path) -> Path:
    """Build the extension with symbols; returns the folder to put on the path."""
    target = REPOSITORY / "native" / "target" / "symbols"
    subprocess.run(
        ["cargo", "build", "-q", "--release", "-p", "otelagent-native", "--target-dir", target],
        cwd=REPOSITORY / "native",
        env={**os.environ, "CARGO_PROFILE_RELEASE_STRIP": "none", "PYO3_PYTHON": sys.executable},
        check=True,
    )
    package = directory / "otelagent_native"
    shutil.copytree(REPOSITORY / "native/python/otelagent_native", package, ignore=shutil.ignore_patterns("*.so"))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    shutil.copy(target / "release/lib_otelagent_native.so", package / f"_otelagent_native{suffix}")
    return directory


def count(path: Path, sampler: str, attributes: int, spans: int) -> Counter[str]:
    """Instructions of a whole run, by `file:function`."""
    program = PROGRAM.replace("ATTRIBUTES", FIVE if attributes else "pass")
    out = path / "callgrind.out"
    command = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONHASHSEED": "0", "OTELAGENT_ENGINE": "native"}
    subprocess.run([*command, sampler, str(spans)], env=environment, check=True, stderr=subprocess.DEVNULL)
    report = ["callgrind_annotate", "--threshold=100", "--auto=no", "--show=Ir", str(out)]
    lines = subprocess.run(report, capture_output=True, text=True, check=True).stdout.splitlines()
    counts: Counter[str] = Counter()
    for line in lines:
        if match := re.match(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+(\S.*?)(?: \[.*\])?$", line):
            counts["" if match[2].startswith("PROGRAM TOTALS") else match[2]] += int(match[1].replace(",", ""))
    return counts


def grouped(counts: Counter[str]) -> Counter[str]:
    """The counts by group; the total under the empty name."""
    groups: Counter[str] = Counter({"": counts[""]})
    for name, instructions in counts.items():
        if name:
            groups[next(group for group, pattern in GROUPS.items() if re.search(pattern, name))] += instructions
    return groups


def main() -> None:
    """Count all cases and print the table."""
    for tool in ("valgrind", "callgrind_annotate", "cargo"):
        if shutil.which(tool) is None:
            sys.exit(f"benchmarks.instructions needs {tool}, which isn't on the PATH")
    columns: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        path = build(Path(name))
        for case, (sampler, attributes) in CASES.items():
            print(f"{case}: two runs under callgrind", file=sys.stderr)
            short, long = (grouped(count(path, sampler, attributes, spans)) for spans in (SHORT, LONG))
            columns[case] = Counter({key: round((long[key] - short[key]) / (LONG - SHORT)) for key in long})
    print("| | " + " | ".join(CASES) + " |\n|---" + "|--:" * len(CASES) + "|")
    for group in [*GROUPS, ""]:
        print(f"| {group or 'all'} | " + " | ".join(f"{columns[case][group]:,}" for case in CASES) + " |")


if __name__ == "__main__":
    main()
