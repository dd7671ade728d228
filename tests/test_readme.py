"""What the README says can be typed: its commands parse, its code runs, its tables are complete."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

import objectives
from callbacks import Displacement
from lit_pref import pruning
from lit_pref.__main__ import main
from lit_pref.cli import run as run_cli
from lit_pref.models import CausalLM
from lit_pref.runs import VARIABLE
from lit_pref.similarity import MEASURES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    found = [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("lit-pref")]
    return [shlex.split(command)[1:] for command in found]


def test_there_are_commands() -> None:
    assert len(commands()) >= 4


@pytest.mark.parametrize("arguments", commands(), ids=lambda a: " ".join(a[-2:]))
def test_commands_parse(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "my_losses.py").write_text(blocks("python")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--print_config"])
    output = capsys.readouterr()
    assert caught.value.code in (0, None), output.err
    config = yaml.safe_load(output.out)
    assert config
    if arguments[0] in ("fit", "validate", "test", "predict"):
        assert config["model"]["objective"]


def test_the_example_objective_trains(
    model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "my_losses.py").write_text(blocks("python")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    run_cli([
        "fit", "-c", str(ROOT / "configs/base.yaml"), "--model.objective=my_losses.MyHinge",
        f"--model.policy.path={model_folder}", f"--data.path={pairs_file}", "--trainer.max_steps=2",
        "--trainer.accelerator=cpu", f"--run.root={tmp_path}",
    ])  # fmt: skip


def test_the_first_command_is_the_quickstart_and_ci_reads_the_second() -> None:
    assert blocks("bash")[0].strip() == "pip install -e . && lit-pref fit --config configs/quickstart.yaml"
    between = README.split("<!-- test-command -->")[1].split("<!-- /test-command -->")[0]
    assert re.findall(r"```bash\n(.*?)```", between, re.DOTALL) == ["pip install -e '.[test]' && pytest\n"]


def test_every_objective_and_its_file_is_in_the_table() -> None:
    table = README.split("## Objectives")[1].split("Δ is the margin")[0]
    classes = {
        name
        for name in objectives.__all__
        if isinstance(getattr(objectives, name), type) and issubclass(getattr(objectives, name), objectives.Objective)
    }
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == classes - {"Objective"}
    linked = set(re.findall(r"configs/objectives/(\w+\.yaml)", table))
    assert linked == {path.name for path in (ROOT / "configs/objectives").glob("*.yaml")}


def test_the_size_of_the_tiny_model_is_that_of_the_model() -> None:
    count = sum(weight.numel() for weight in CausalLM("world:agreement").build().parameters())
    assert f"a Llama of {count:,} parameters" in README


def test_every_scalar_is_in_the_table() -> None:
    import torch

    table = README.split("## What is measured")[1].split("All are means")[0]
    zeros = torch.zeros(3)
    columns = dict.fromkeys(("chosen", "rejected", "chosen_per_token", "rejected_per_token", "margin"), zeros)
    names = {*Displacement().scalars(columns), "loss", "logps/chosen", "rewards/accuracies"}
    for name in names:
        assert f"`{name}`" in table or f"`{name.split('/')[-1]}`" in table, name


def test_the_picture_and_the_files_it_names_exist() -> None:
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        file, _, anchor = target.partition("#")
        assert (ROOT / file).exists(), target
        assert not anchor or f"# {anchor}" in (ROOT / file).read_text().lower(), target


def test_every_measure_and_every_rule_is_in_the_table() -> None:
    section = README.split("## Which pairs displace?")[1].split("## What is measured")[0]
    assert re.findall(r"^\| `(\w+)` \| [⟨a-z]", section, re.MULTILINE)[: len(MEASURES)] == list(MEASURES)
    rules = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `?(?:rule|control).*$", section, re.MULTILINE))))
    assert rules - {"rule"} == set(pruning.__all__) - {"Rule", "Candidates", "Choice"}
