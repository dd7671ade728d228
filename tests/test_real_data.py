"""Real pairs with a real tokenizer: every row is accounted for, and DPO starts at ln 2 on each of them."""

import csv
import math
import re
from pathlib import Path

import pytest

from lit_pref.cli import run as run_cli
from lit_pref.runs import VARIABLE

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
CASES = {
    "hh": ("hh-harmless-base-test.jsonl.gz", 2312, 2277, 26, 9),
    "persona": ("persona-ends-justify-means.jsonl", 1000, 1000, 0, 0),
}


def fit(name: str, shared_data: Path, root: Path, steps: int, layers: int) -> None:
    run_cli([
        "fit", f"-c={CONFIGS / 'base.yaml'}", f"-c={CONFIGS / 'objectives/dpo.yaml'}",
        f"-c={CONFIGS / 'data' / name}.yaml",
        f"--model.policy.path={shared_data / 'smollm2-135m-instruct'}", "--model.policy.weights=random",
        f"--model.policy.config={{num_hidden_layers: {layers}}}", "--model.optimizer.lr=1e-4",
        f"--data.path={shared_data / CASES[name][0]}", "--data.batch_size=2", "--data.val_size=8",
        "--trainer.accelerator=cpu", f"--trainer.max_steps={steps}", "--trainer.log_every_n_steps=1",
        "--trainer.enable_checkpointing=false", f"--run.root={root}", f"--run.name={name}",
    ])  # fmt: skip


def column(root: Path, name: str, tag: str) -> list[float]:
    with (root / name / "version_0" / "metrics.csv").open() as file:
        return [float(row[tag]) for row in csv.DictReader(file) if row.get(tag)]


@pytest.mark.parametrize("name", CASES)
def test_rows_add_up_and_the_first_loss_is_ln_2(
    name: str,
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    fit(name, shared_data, tmp_path, steps=2, layers=2)
    _, total, kept, dropped, refused = CASES[name]
    said = re.search(r"([\d,]+) rows: ([\d,]+) kept, ([\d,]+) dropped.*?, ([\d,]+) refused", capsys.readouterr().out)
    assert said is not None
    assert [int(number.replace(",", "")) for number in said.groups()] == [total, kept, dropped, refused]
    assert kept + dropped + refused == total
    lost = (tmp_path / name / "version_0" / "bad_rows.jsonl").read_text().splitlines()
    assert len(lost) == dropped + refused
    assert column(tmp_path, name, "loss/train")[0] == pytest.approx(math.log(2), abs=1e-6)
    assert column(tmp_path, name, "loss/val")[0] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_fifty_steps_of_a_four_layer_model(
    name: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    fit(name, shared_data, tmp_path, steps=50, layers=4)
    losses = column(tmp_path, name, "loss/train")
    assert len(losses) == 50
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert all(map(math.isfinite, losses))
    assert abs(losses[-1] - math.log(2)) > 0.01
