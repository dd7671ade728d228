"""The benchmark of scoring runs, compares what it says it compares, and ends with its figure."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_it_runs_and_ends_with_its_ratio(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/score.py"), "--tiny", "--pairs=8", "--block=3",
         f"--data={pairs_file}", f"--tokenizer={model_folder}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    lines = result.stdout.strip().splitlines()
    assert lines[0].startswith("8 pairs in blocks of 3; 1 thread(s) a side; float32")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert [row[1] for row in rows[1:]] == ["script", "lit-pref"] * 3
    assert {len(row) for row in rows} == {8}
    for row in rows[2::2]:
        assert re.fullmatch(r"\d+\.\dx \[\d+\.\d-\d+\.\d\]", row[4])
        assert float(row[7]) < 1e-2, "both sides give the same scores"
    assert re.search(r"^151k vocabulary: .* \d+\.\dx ", lines[-1])
