"""How long does a report of many runs take? Prints seconds, and imports no torch.

    python benchmarks/report.py                  # 50 folders of 1,000 steps, about ten seconds of one core

Folders are made as runs leave them (``tests/report_runs.py``): 10 arms of 5 seeds, 200 validation pairs, a validation
every 25 steps, four logged lines a step, two judges. What is timed is the command, start to end, in its own process.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.report_runs import write_run  # noqa: E402, found by the line before

ARMS = "DPO IPO SimPO DPOP KTO ORPO CPO SLiC BCO RDPO".split()


def lengthened(path: Path, steps: int) -> None:
    """Give metrics.csv the lines and columns of a training that logs all it can at every step."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    extra = [
        f"{family}/{side}_{i}/train" for family in ("ches", "logps", "objective") for side in "ab" for i in range(5)
    ]
    training = [
        {extra[(step + part) % len(extra)]: step / 7, "step": step} for step in range(steps) for part in range(4)
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*extra, *lines[0]])
        writer.writeheader()
        writer.writerows(training + lines)


def main() -> None:
    """Make the folders, report them, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        for i in range(options.runs):
            objective, seed = ARMS[i % len(ARMS)], i // len(ARMS)
            folder = Path(home, "runs", objective, f"version_{seed}")
            judges = {"classifier": (0.9 - 0.05 * (i % len(ARMS)), 0.1, 1), "keyword": (0.8, 0.2, 0)}
            write_run(folder, objective, seed, pairs=200, steps=options.steps, every=25, judges=judges)
            lengthened(folder / "metrics.csv", options.steps)
        size = sum(path.stat().st_size for path in Path(home).rglob("*") if path.is_file()) / 1e6
        times = {}
        for name, words in (("--help", ["--help"]), ("report", [f"{home}/runs", "--out", f"{home}/out"])):
            start, before = time.perf_counter(), os.times()
            command = [sys.executable, "-m", "lit_pref", "report", *words]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            after = os.times()
            cpu = after.children_user - before.children_user + after.children_system - before.children_system
            times[name] = time.perf_counter() - start, cpu
            print(f"{name}: {times[name][0]:.1f} s of wall clock, {cpu:.1f} s of CPU")
    print(f"{options.runs} runs of {options.steps:,} steps ({size:.0f} MB): report in {times['report'][0]:.1f} s")


if __name__ == "__main__":
    main()
