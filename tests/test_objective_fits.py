"""Every objective that is shipped trains on the tiny world: twenty steps, all numbers finite, its own loss lower."""

import csv
import json
import math
from pathlib import Path

import pytest

from lit_pref import world
from lit_pref.cli import run as run_cli
from lit_pref.runs import VARIABLE

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.fixture(scope="module")
def rewarded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pairs of the tiny world with rewards, for objectives that read them."""
    folder = tmp_path_factory.mktemp("rewarded")
    for split in ("train", "validation"):
        lines = world.resolve("world:agreement/no-over-never", split).read_text().splitlines()
        rows = [{**json.loads(line), "chosen_reward": 2.0, "rejected_reward": 0.5} for line in lines]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {split: folder / f"{split}.jsonl" for split in ("train", "validation")}


@pytest.mark.parametrize("path", sorted((CONFIGS / "objectives").glob("*.yaml")), ids=lambda p: p.stem)
def test_twenty_steps_lower_the_loss(
    path: Path, rewarded: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    run_cli([
        "fit", f"-c={CONFIGS / 'quickstart.yaml'}", f"-c={path}", f"--data.path={rewarded['train']}",
        f"--data.val_path={rewarded['validation']}", "--trainer.max_steps=20", "--trainer.enable_checkpointing=false",
        f"--run.root={tmp_path}",
    ])  # fmt: skip
    with (tmp_path / "quickstart/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert all(math.isfinite(float(value)) for value in row.values() if value), row
    losses = [float(row["loss/val"]) for row in rows if row["loss/val"]]
    assert losses[-1] < losses[0]
