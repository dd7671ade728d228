"""The benchmark of generation runs, compares what it says it compares, and ends with its figure."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_it_runs_and_ends_with_its_ratio(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/generation.py"), "--tiny", "--blocks=2", "--block=6", "--batch=4"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    lines = result.stdout.strip().splitlines()
    assert lines[0].startswith("2 blocks of 6 prompts; batches of 4; 1 thread(s); float32")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    cases = ("equal", "ragged prompts", "ragged")
    assert [row[:2] for row in rows[1:]] == [[case, side] for case in cases for side in ("plain", "lit-pref")]
    assert {len(row) for row in rows} == {7}
    assert rows[1][4] == rows[2][4] == "8.0", "equal lengths are equal"
    for row in rows[2::2]:
        for ratio in row[5:]:
            assert re.fullmatch(r"\d+\.\d\dx \[\d+\.\d\d-\d+\.\d\d\]", ratio)
    assert re.fullmatch(r"Ragged prompts and responses: .* \d+\.\dx .*", lines[-1])
