"""The benchmarks of training run, train both sides alike, and end with their figures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RATIO = r"\d+\.\dx \[\d+\.\d-\d+\.\d\]"


def run(script: str, *options: str, folder: Path) -> tuple[list[str], list[list[str]]]:
    """Lines that were printed, and rows of the table below its head."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), "--tiny", *options], cwd=folder, capture_output=True,
        text=True, timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]
    lines = result.stdout.strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert len({len(row) for row in rows}) == 1
    return lines, rows[1:]


def test_steps_of_both_sides_are_timed_and_alike(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="trl is not installed")
    lines, rows = run(
        "train_step.py", "--shapes=smol", "--pairs=2", "--peer=best,compacted", f"--data={pairs_file}",
        f"--tokenizer={model_folder}", folder=tmp_path,
    )  # fmt: skip
    assert lines[0].startswith("40 pairs, tokens on average: ")
    assert [row[3] for row in rows] == ["lit-pref", "TRL best", "TRL compacted"]
    for row in rows[1:]:
        assert re.fullmatch(RATIO, row[10])
        assert re.fullmatch(RATIO, row[11])
        assert float(row[12]) < 1e-4, "both sides have the same losses"
    assert re.fullmatch(r"losses lie between .* those of the two sides are at most \d\.\de-\d+ apart", lines[-2])
    assert re.fullmatch(
        r"smol; grouped, float32: lit-pref trains on \d+\.\dx as many pairs per CPU second as TRL best", lines[-1]
    )


def test_other_precision_reference_order_and_data(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Of TRL's best in bfloat16 there are two, of which the faster one comes first."""
    pytest.importorskip("trl", reason="trl is not installed")
    lines, rows = run(
        "train_step.py", "--shapes=small", "--pairs=3", "--precision=bfloat16", "--reference=live", "--order=random",
        "--second", "--steps=1", f"--data={pairs_file}", f"--tokenizer={model_folder}", folder=tmp_path,
    )  # fmt: skip
    assert "with joined responses" in lines[0]
    assert {row[2] for row in rows} == {"live"}
    assert rows[0][3:5] == ["lit-pref", "bfloat16"]
    assert sorted(row[3:5] for row in rows[1:]) == [["TRL best", "bfloat16"], ["TRL best", "float32"]]
    assert float(rows[1][6]) <= float(rows[2][6])
    assert all(float(row[12]) < 2e-2 for row in rows[1:])
    assert re.search(r"^small; random, bfloat16: .* \d+\.\dx ", lines[-1])


def test_memory_of_both_sides_is_measured(model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="trl is not installed")
    lines, rows = run("memory.py", "--lengths=32", "--vocabularies=512", f"--tokenizer={model_folder}", folder=tmp_path)
    assert [row[:2] for row in rows] == [["512", "32"]]
    assert all(re.fullmatch(r"-?\d+ MB", cell) for cell in rows[0][2:4])
    assert re.search(r"^vocabulary 512, 32 tokens a row: .* -?\d+\.\dx ", lines[-1])


def test_scaling_prints_a_slope_for_each_size(tmp_path: Path) -> None:
    lines, rows = run("scaling.py", folder=tmp_path)
    assert {row[0] for row in rows} == {"pairs", "length", "prompt share"}
    assert all(float(row[4]) > 0 for row in rows)
    slopes = [
        line for line in lines if re.match(r"(pairs|length|prompt share): CPU time grows as tokens\^-?\d+\.\d\d", line)
    ]
    assert len(slopes) == 3
    assert re.search(r"\d+\.\dx", lines[-1])


def test_a_profile_has_every_part_of_a_step(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    lines, rows = run(
        "profile_step.py", "--shapes=smol", "--pairs=12", "--steps=2", f"--data={pairs_file}",
        f"--tokenizer={model_folder}", folder=tmp_path,
    )  # fmt: skip
    assert [row[0] for row in rows] == [
        "matrices of the layers", "attention", "output embedding", "everything else", "all",
    ]  # fmt: skip
    for column in (1, 2):
        parts = [float(row[column]) for row in rows]
        assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=0.03)
        assert parts[-1] > 0, "two steps take longer than can be printed as nothing"
    assert re.fullmatch(r"the last shape takes \d+\.\dx as long before", lines[-1])
