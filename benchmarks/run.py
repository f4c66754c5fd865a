"""Runs every benchmark: rounds of all variants in turn, medians with spread, ratios to the first variant named."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import urllib.request
from collections import defaultdict
from pathlib import Path

from benchmarks import span_cost, startup

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "local"

Results = dict[str, dict[str, list[float]]]


def measure(script: str, *arguments: str) -> dict[str, float]:
    """One process, one result."""
    done = subprocess.run([sys.executable, HERE / script, *arguments], check=True, capture_output=True, text=True)
    line: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return line


def span_cost_variants() -> list[str]:
    """The variants of `span_cost.py` that can run here."""
    if importlib.util.find_spec("otelagent_native") is not None:
        return list(span_cost.VARIANTS)
    print("otelagent_native is not installed (make native): left out", file=sys.stderr)
    return [variant for variant in span_cost.VARIANTS if not variant.startswith("otelagent_native")]


def span_costs(rounds: int, spans: int) -> Results:
    """The question of `span_cost.py`. A variant whose spans don't all arrive fails the run."""
    results: Results = defaultdict(lambda: defaultdict(list))
    sink = subprocess.Popen([sys.executable, HERE / "sink.py"], stdout=subprocess.PIPE, text=True)
    try:
        assert sink.stdout is not None
        address = f"http://127.0.0.1:{int(sink.stdout.readline())}/"
        for number in range(rounds):
            for variant in span_cost_variants():
                print(f"span_cost, round {number + 1} of {rounds}: {variant}", file=sys.stderr)
                result = measure("span_cost.py", variant, f"{address}v1/traces", str(spans))
                with urllib.request.urlopen(address) as answer:
                    arrived = int(answer.read())
                if arrived != result["spans"]:
                    sys.exit(f"{variant}: {arrived} of {result['spans']:.0f} spans arrived")
                for key in ("thread_us", "process_us", "max_rss_mib"):
                    results[variant][key].append(result[key])
    finally:
        sink.terminate()
        sink.wait()
    return results


def startups(rounds: int) -> Results:
    """The question of `startup.py`."""
    results: Results = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        for variant in startup.VARIANTS:
            print(f"startup, round {number + 1} of {rounds}: {variant}", file=sys.stderr)
            for key, value in measure("startup.py", variant).items():
                results[variant][key].append(value)
    return results


def table(title: str, results: Results) -> str:
    """Markdown: median (smallest to largest), and the ratio of the medians to the first variant's."""
    variants = list(results)
    keys = list(results[variants[0]])
    lines = [f"### {title}", "", "| variant | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for variant in variants:
        cells = []
        for key in keys:
            values = results[variant][key]
            median, first = statistics.median(values), statistics.median(results[variants[0]][key])
            cells.append(f"{median:.2f} ({min(values):.2f} to {max(values):.2f}), x{median / first:.3f}")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all, print Markdown, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spans", type=int, default=20_000, help="per round and variant")
    options = parser.parse_args()
    results = {"span_cost": span_costs(options.rounds, options.spans), "startup": startups(options.rounds)}
    print(f"Python {platform.python_version()}, {platform.machine()}, {options.rounds} rounds\n")
    for title, result in results.items():
        print(table(title, result))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "results.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
