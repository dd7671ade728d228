"""Every YAML that is shipped is parsed, and says what it seems to say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_pref.cli import run as run_cli

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
OBJECTIVES = {
    "dpo": ("DPO", {"beta": 0.1, "label_smoothing": 0.0}),
    "cdpo": ("DPO", {"beta": 0.1, "label_smoothing": 0.1}),
    "ipo": ("IPO", {"beta": 0.01, "reduction": "sum"}),
    "ipo_mean": ("IPO", {"beta": 0.1, "reduction": "mean"}),
    "simpo": ("SimPO", {"beta": 2.0, "gamma_beta_ratio": 0.25, "gamma": None}),
    "sft": ("SFT", {"reduction": "mean"}),
    "dpo_sft": ("WeightedSum", None),
}
NEEDED = ["--model.policy.path=x", "--data.path=x.jsonl"]


def resolved(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    with pytest.raises(SystemExit) as caught:
        run_cli(["fit", *args, "--print_config"])
    output = capsys.readouterr()
    assert caught.value.code in (0, None), output.err
    return yaml.safe_load(output.out)


def test_every_objective_file_is_listed() -> None:
    assert {path.stem for path in (CONFIGS / "objectives").glob("*.yaml")} == set(OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_file_gives_its_numbers_after_any_other(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = "simpo" if name != "simpo" else "dpo"
    files = ["base.yaml", f"objectives/{other}.yaml", f"objectives/{name}.yaml"]
    config = resolved(capsys, *(f"-c={CONFIGS / file}" for file in files), *NEEDED)
    cls, arguments = OBJECTIVES[name]
    objective = config["model"]["objective"]
    assert objective["class_path"] == f"objectives.{cls}"
    if arguments is not None:
        assert objective["init_args"] == arguments
    else:
        assert objective["init_args"]["weights"] == [1.0, 0.1]
        assert [o["class_path"] for o in objective["init_args"]["objectives"]] == [
            "objectives.DPO",
            "objectives.SFT",
        ]


@pytest.mark.parametrize("path", sorted((CONFIGS / "data").glob("*.yaml")), ids=lambda p: p.stem)
def test_data_files_parse(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [CONFIGS / "base.yaml", CONFIGS / "objectives/dpo.yaml", path]
    config = resolved(capsys, *(f"-c={file}" for file in files), *NEEDED)
    expected = yaml.safe_load(path.read_text())["data"]
    for key, value in expected.items():
        got = config["data"][key]
        assert got == value or value.items() <= got.items()


def test_the_base_names_no_objective(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_cli(["fit", f"-c={CONFIGS / 'base.yaml'}", *NEEDED])
    assert "model.objective" in capsys.readouterr().err


def test_quickstart_parses_alone(capsys: pytest.CaptureFixture[str]) -> None:
    config = resolved(capsys, f"-c={CONFIGS / 'quickstart.yaml'}")
    assert config["model"]["policy"]["path"].startswith("world:")


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONFIGS)))
def test_committed_files_use_full_class_paths(path: Path) -> None:
    for line in path.read_text().splitlines():
        if "class_path:" in line and not line.lstrip().startswith("#"):
            assert "." in line.split("class_path:")[1], line
