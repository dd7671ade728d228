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
    "dpo_sft": ("WeightedSum", {"weights": [1.0, 0.1]}),
    "wpo": ("WPO", {"clamp": True}),
    "ld_dpo": ("LengthDesensitized", {"alpha": 0.5, "sides": "both"}),
    "token_mask": ("TokenMask", {"drop": "prefix_and_suffix"}),
    "balanced_gradients": ("BalancedGradients", {}),
    "disentanglement_band": ("DisentanglementBand", {"decay": 0.98}),
    "robust_dpo": ("RobustDPO", {"beta": 0.01, "label_smoothing": 0.1}),
    "hinge": ("Hinge", {"beta": 0.05}),
    "exo": ("EXO", {"beta": 0.1, "label_smoothing": 0.001}),
    "nca": ("NCA", {"beta": 0.01}),
    "bco": ("BCO", {"beta": 0.01, "shift": "running"}),
    "bco_no_shift": ("BCO", {"beta": 0.01, "shift": "none"}),
    "sppo": ("SPPO", {"beta": 0.001}),
    "aot": ("AOT", {"beta": 0.01, "label_smoothing": 0.0, "paired": True}),
    "aot_unpaired": ("AOT", {"beta": 0.01, "label_smoothing": 0.0, "paired": False}),
    "apo_zero": ("APOZero", {"beta": 0.1}),
    "apo_down": ("APODown", {"beta": 0.1}),
    "apo_zero_unpaired": ("APOZeroUnpaired", {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}),
    "discopop": ("DiscoPOP", {"beta": 0.05, "tau": 0.05}),
    "dpo_norm": ("DPONorm", {"beta": 5.0}),
    "rdpo": ("RDPO", {"beta": 0.1, "alpha": 0.01}),
    "odpo": ("ODPO", {"beta": 0.1, "alpha": 1.0}),
    "rebel": ("REBEL", {"eta": 1.0}),
    "gpo": ("GPO", {"beta": 0.1, "function": "truncated_quadratic"}),
    "fdpo": ("FDPO", {"beta": 0.1, "divergence": "js_divergence", "alpha": 0.5}),
    "cal_dpo": ("CalDPO", {"beta": 0.001}),
    "dpop": ("DPOP", {"beta": 0.1, "penalty": 50.0}),
    "dpo_shift": ("DPOShift", {"beta": 0.01, "shift": 0.75, "final_shift": None}),
    "dpo_shift_increase": ("DPOShift", {"beta": 0.01, "shift": 0.75, "final_shift": 1.0}),
    "dpo_shift_decrease": ("DPOShift", {"beta": 0.01, "shift": 1.0, "final_shift": 0.75}),
    "rpo": ("RPO", {"beta": 0.1, "alpha": 1.0, "reduction": "mean"}),
    "bpo": ("BPO", {"beta": 0.1, "alpha": 1.0}),
    "weighted_dpo": ("WeightedDPO", {"beta": 0.1, "chosen_weight": 1.0, "rejected_weight": 0.5}),
    "cpo": ("CPO", {"beta": 0.1, "alpha": 1.0, "reduction": "tokens", "label_smoothing": 0.0}),
    "orpo": ("ORPO", {"beta": 0.1, "reduction": "mean"}),
    "alphapo": ("AlphaPO", {"beta": 2.5, "gamma": 0.1, "alpha": 0.25}),
    "rrhf": ("RRHF", {"rank_weight": 1.0, "reduction": "sum"}),
    "slic": ("SLiC", {"delta": 1.0, "nll_weight": 0.1, "reduction": "sum"}),
    "kto": ("KTO", {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}),
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
    given = {key: value for key, value in objective["init_args"].items() if key not in ("objective", "objectives")}
    assert given == arguments
    inner = objective["init_args"].get("objectives", [objective["init_args"].get("objective")])
    assert inner == [None] or inner[0]["class_path"] == "objectives.DPO"


@pytest.mark.parametrize("path", sorted((CONFIGS / "data").glob("*.yaml")), ids=lambda p: p.stem)
def test_data_files_parse(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [CONFIGS / "base.yaml", CONFIGS / "objectives/dpo.yaml", path]
    config = resolved(capsys, *(f"-c={file}" for file in files), *NEEDED)
    expected = yaml.safe_load(path.read_text())["data"]
    for key, value in expected.items():
        got = config["data"][key]
        assert got == value or value.items() <= got.items()


@pytest.mark.parametrize("path", sorted((CONFIGS / "strategies").glob("*.yaml")), ids=lambda p: p.stem)
def test_strategy_files_parse(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [CONFIGS / "base.yaml", CONFIGS / "objectives/dpo.yaml", path]
    got = resolved(capsys, *(f"-c={file}" for file in files), *NEEDED)["trainer"]["strategy"]
    expected = yaml.safe_load(path.read_text())["trainer"]["strategy"]
    assert got["class_path"] == expected["class_path"]
    assert expected["init_args"].items() <= got["init_args"].items()


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
