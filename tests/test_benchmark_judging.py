"""The benchmark of judging runs, compares what it says it compares, and ends with its figure."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_it_runs_and_ends_with_its_ratio(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/judging.py"), "--tiny", "--blocks=2", "--block=24", "--batch=4"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    lines = result.stdout.strip().splitlines()
    assert lines[0].startswith("2 blocks of 24 responses; batches of 4; 1 thread(s); float32")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    judges, cases = ("log-probabilities", "greedy", "classifier"), ("equal", "ragged")
    expected = [[judge, case, side] for judge in judges for case in cases for side in ("plain", "lit-pref")]
    assert [row[:3] for row in rows[1:]] == expected
    assert {len(row) for row in rows} == {8}
    for plain, product in zip(rows[1::2], rows[2::2], strict=True):
        assert plain[4] == product[4]
        assert 0 < float(plain[4].rstrip("%")) < 100, "labels differ, or agreement would say nothing"
        assert product[5] == "100.0%", "both sides say the same"
        for ratio in product[6:]:
            assert re.fullmatch(r"\d+\.\d\dx \[\d+\.\d\d-\d+\.\d\d\]", ratio)
    assert re.fullmatch(r"Ragged responses: .* \d+\.\dx .*", lines[-1])
    assert not list(tmp_path.iterdir())
