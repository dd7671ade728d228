"""Two processes give the numbers of one: really started, really reduced."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def fit(
    folder: Path, pairs: Path, root: Path, objective: str, options: list[str], devices: int, batch_size: int
) -> Path:
    name = f"on_{devices}"
    strategy = "ddp" if devices > 1 else "auto"
    arguments = [
        "-c", str(ROOT / "configs/base.yaml"), "-c", str(ROOT / f"configs/objectives/{objective}.yaml"),
        f"--model.policy.path={folder}", "--model.optimizer.lr=1e-2",
        f"--data.path={pairs}", f"--data.batch_size={batch_size}", "--data.val_size=7",
        "--trainer.accelerator=cpu", f"--trainer.devices={devices}", f"--trainer.strategy={strategy}",
        "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1", "--trainer.enable_checkpointing=false",
        f"--run.root={root}", f"--run.name={name}", *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["LIT_PREF_CACHE"] = str(root / f"cache_{devices}")
    environment.pop("LIT_PREF_RUN_DIR", None)
    result = subprocess.run(
        [sys.executable, "-m", "lit_pref", "fit", *arguments], cwd=root, capture_output=True, text=True,
        env=environment, timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert [p.name for p in (root / name).iterdir()] == ["version_0"], "one folder for all processes"
    return root / name / "version_0" / "metrics.csv"


def curves(path: Path) -> dict[tuple[str, str], float]:
    with path.open() as file:
        return {
            (row["step"], tag): float(value)
            for row in csv.DictReader(file)
            for tag, value in row.items()
            if value and tag != "step"
        }


@pytest.mark.parametrize(
    ("objective", "reference"), [("dpo", "FrozenModel"), ("kto", "FrozenModel"), ("bco", "CachedModel")]
)
def test_two_processes_log_the_numbers_of_one(
    objective: str, reference: str, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    """33 training pairs in global batches of 8, 7 validation pairs: neither divides by two.

    KTO and BCO estimate one number from all pairs of a step, whatever process they are on; each run computes its
    cached reference itself, on its own processes.
    """
    options = [f"--model.reference={reference}"]
    one = curves(fit(model_folder, pairs_file, tmp_path, objective, options, devices=1, batch_size=8))
    two = curves(fit(model_folder, pairs_file, tmp_path, objective, options, devices=2, batch_size=4))
    assert one.keys() == two.keys()
    assert ("10", "displacement/chosen/val") in one
    for key, value in one.items():
        assert two[key] == pytest.approx(value, abs=2e-4, rel=1e-5), key
    moved = [value for (_, tag), value in one.items() if tag == "displacement/chosen/val"]
    assert abs(moved[-1]) > 0.1, "the policy must move, or equality means nothing"
