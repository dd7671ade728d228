"""Reports of runs: what is compared, what is refused, what is said, and that no text of a run does harm."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from lit_pref.__main__ import main
from lit_pref.data.rows import DataError
from lit_pref.errors import ConfigError
from lit_pref.report import drawing, write_report, writing
from lit_pref.report.plan import read_plan
from lit_pref.report.texts import csv_cell, latex, markdown, plain, token_text
from tests.report_runs import scalars, write_run, write_trajectories

FIGURES = (
    "trajectories",
    "distribution",
    "tradeoff",
    "ln_ches",
    "ches",
    "refusals",
    "tokens_first",
    "tokens_overall",
    "mass",
)
JUDGES = {"classifier": (0.9, 0.1, 1), "keyword": (0.8, 0.2, 0)}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><svg onload=alert(1)>",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "[bold red]markup[/] [link=http://evil.example]x[/link]",
    "=cmd|' /C calc'!A0",
    "+1-2@SUM(A1)",
    "\u202eright to left\u2066\u200f",
    "nul\x00and\ud800surrogate",
    "\\input{/etc/passwd} \\end{tabular} $x_1^2$ & % #",
    "| a | `b` [c](javascript:alert(1)) ![d](http://evil.example/p.png) http://evil.example @someone",
    "{{ 7 * 7 }} {% for x in y %} #010203 -->",
    "x" * 5000,
]


def runs(home: Path, objectives: tuple[str, ...] = ("DPO", "IPO"), seeds: int = 3, **options: object) -> Path:
    for objective in objectives:
        for seed in range(seeds):
            write_run(home / "runs" / objective / f"version_{seed}", objective, seed, **options)  # type: ignore[arg-type]
    return home / "runs"


@pytest.fixture(autouse=True, scope="module")
def _coarse() -> Iterator[None]:
    """Half of a report's seconds are pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "DPI", 30)
        yield


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a report whose numbers and words are tested."""
    monkeypatch.setattr(writing, "_figures", lambda *_: ([], []))


def table(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (out / "table.csv").open(newline="") as file:
        return {(line["arm"], line["metric"]): line for line in csv.DictReader(file)}


@pytest.fixture(scope="module")
def reported(_coarse: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two arms with three seeds and everything that runs can have."""
    home = tmp_path_factory.mktemp("reported")
    page = write_report([runs(home, judges=JUDGES)], home / "out")
    assert page == home / "out" / "report.html"
    return home / "out"


def test_every_file_is_there(reported: Path) -> None:
    found = {str(path.relative_to(reported)) for path in reported.rglob("*") if path.is_file()}
    figures = {f"figures/{name}.{ending}" for name in FIGURES for ending in ("png", "svg", "csv")}
    assert found == figures | {"report.html", "report.md", "table.csv", "table.tex"}


def test_the_numbers_are_those_of_the_last_validation(reported: Path) -> None:
    lines = table(reported)
    values = []
    for seed in range(3):
        with (reported.parent / f"runs/DPO/version_{seed}/metrics.csv").open() as file:
            values += [float(v) for row in csv.DictReader(file) if (v := row["displacement/chosen/val"])][-1:]
    line = lines["DPO", "displacement/chosen"]
    assert float(line["mean"]) == pytest.approx(np.mean(values))
    assert (line["n"], line["seeds"], line["unit"]) == ("3", "0 1 2", "nats")
    assert line["difference"] == "", "the first arm is what others are compared with"
    other = lines["IPO", "displacement/chosen"]
    assert other["baseline"] == "DPO"
    assert int(other["tests_in_family"]) == 3, "chosen, rejected and margin of one arm"
    assert float(other["p_holm"]) >= float(other["p"])


def test_losses_and_rewards_are_nowhere(reported: Path) -> None:
    for name in ("report.html", "report.md", "table.csv", "table.tex"):
        text = (reported / name).read_text()
        assert "123.456" not in text
        assert "77.7" not in text
        assert "rewards/" not in text


def test_it_opens_with_sentences_made_of_its_numbers(reported: Path) -> None:
    text = (reported / "report.html").read_text()
    opening = text.split('class="opening">')[1].split("</div>")[0]
    assert opening.count("<p>") == 4, "margin, chosen, what is established, refusals"
    assert "The margin grew most under DPO" in opening
    assert "2 arms, 6 runs, 3 seeds" in opening
    assert "n = 3" in opening


def test_captions_say_what_marks_and_axes_are(reported: Path) -> None:
    text = (reported / "report.html").read_text()
    assert "large hollow marks: their mean" in text
    assert text.count("Each panel has its own vertical range") == 2, "both measures of CHES"


def test_refusal_rates_come_with_abstentions(reported: Path) -> None:
    lines = table(reported)
    assert float(lines["DPO", "refusal/rate_classifier"]["mean"]) == pytest.approx(0.9)
    assert float(lines["DPO", "refusal/abstained_classifier"]["mean"]) == pytest.approx(1 / 50)
    assert float(lines["DPO", "refusal/over_rate_keyword"]["mean"]) == pytest.approx(0.2)


@pytest.mark.usefixtures("no_figures")
def test_a_rate_with_many_abstentions_is_no_number(tmp_path: Path) -> None:
    write_report([runs(tmp_path, ("DPO",), 1, judges={"j": (0.9, 0.1, 10)})], tmp_path / "out")
    assert table(tmp_path / "out")["DPO", "refusal/rate_j"]["mean"] == "nan"
    assert "too many responses have no verdict" in (tmp_path / "out/report.md").read_text()


def test_the_same_runs_give_the_same_bytes(reported: Path, tmp_path: Path) -> None:
    shutil.copytree(reported.parent / "runs", tmp_path / "elsewhere/runs")
    write_report([tmp_path / "elsewhere/runs"], tmp_path / "out")
    for path in sorted(p for p in reported.rglob("*") if p.is_file()):
        name = path.relative_to(reported)
        assert path.read_bytes() == (tmp_path / "out" / name).read_bytes(), name
        assert str(tmp_path).encode() not in (tmp_path / "out" / name).read_bytes(), name


@pytest.mark.usefixtures("no_figures")
def test_one_seed_has_no_intervals_and_says_so(tmp_path: Path) -> None:
    write_report([runs(tmp_path, seeds=1)], tmp_path / "out")
    text = (tmp_path / "out/report.html").read_text()
    assert "one seed, so no intervals" in text
    assert "No difference from DPO can be tested (1 seed)" in text
    line = table(tmp_path / "out")["IPO", "displacement/margin"]
    assert (line["n"], line["low"], line["p_holm"]) == ("1", "nan", "nan")


@pytest.mark.usefixtures("no_figures")
def test_another_first_arm(tmp_path: Path) -> None:
    folder = runs(tmp_path)
    write_report([folder], tmp_path / "out", baseline="IPO")
    assert table(tmp_path / "out")["DPO", "displacement/chosen"]["baseline"] == "IPO"
    with pytest.raises(ConfigError, match="Choices: DPO, IPO"):
        write_report([folder], tmp_path / "out", baseline="KTO")


def test_hyper_parameters_make_arms_and_seeds_do_not(tmp_path: Path) -> None:
    for seed in range(2):
        for beta in (0.05, 0.1):
            write_run(tmp_path / f"{beta}_{seed}" / "version_0", "DPO", seed, arguments={"beta": beta})
    write_report([tmp_path], tmp_path / "out")
    assert {arm for arm, _ in table(tmp_path / "out")} == {"DPO beta=0.05", "DPO beta=0.1"}
    assert "Dotted lines join" in (tmp_path / "out/report.md").read_text()


@pytest.mark.usefixtures("no_figures")
def test_the_newest_finished_run_of_an_arm_counts(tmp_path: Path) -> None:
    write_run(tmp_path / "r/version_0", effect=(-1.0, -2.0))
    write_run(tmp_path / "r/version_1", effect=(-50.0, -60.0))
    write_run(tmp_path / "r/version_10", manifest={"finished": False, "stopped_by": None})
    write_run(tmp_path / "r/version_11", manifest={"finished": False, "stopped_by": "OutOfMemoryError"})
    write_report([tmp_path / "r"], tmp_path / "out")
    assert float(table(tmp_path / "out")["DPO", "displacement/chosen"]["mean"]) < -45
    text = (tmp_path / "out/report.html").read_text()
    assert "version_1 is newer, with the same arm and seed" in text
    assert "unfinished: it was killed, or runs still" in text
    assert "unfinished: it ended by OutOfMemoryError" in text


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        ({"policy": "another"}, "the initial policy"),
        ({"data": {"train": "t", "val": "w"}}, "the validation pairs"),
        ({"rows": {"train": "rt", "val": "other"}}, "the rows of the validation pairs"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(manifest: dict[str, object], what: str, tmp_path: Path) -> None:
    write_run(tmp_path / "a/version_0", "DPO")
    write_run(tmp_path / "b/version_0", "IPO", manifest=manifest)
    with pytest.raises(DataError) as caught:
        write_report([tmp_path], tmp_path / "out")
    for words in ("a/version_0", "b/version_0", "seed 0", what, "report them apart"):
        assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_figures")
def test_the_model_that_displacement_is_measured_from_is_one(tmp_path: Path) -> None:
    write_run(tmp_path / "old/version_0", "DPO")
    write_run(tmp_path / "a/version_0", "IPO", manifest={"zero": "one"})
    write_run(tmp_path / "none/version_0", "DPOP", manifest={"zero": None})
    write_report([tmp_path / "old", tmp_path / "a"], tmp_path / "out")
    for other in ("old", "a"):
        with pytest.raises(DataError, match="the model that displacement is measured from"):
            write_report([tmp_path / other, tmp_path / "a", tmp_path / "none"], tmp_path / "out")


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("asked", "what"),
    [("others j", "the prompts of refusals, or their sampling"), ("same k", "the judge list"), ("same j", None)],
)
def test_rates_are_of_the_same_prompts_and_by_the_same_judge(asked: str, what: str | None, tmp_path: Path) -> None:
    """Runs of before this was written down are compared as they were."""
    write_run(tmp_path / "a", judges={"list": (0.5, 0.1, 0)}, asked="same j")
    write_run(tmp_path / "b", "IPO", judges={"list": (0.4, 0.1, 0), "model": (0.3, 0.1, 0)}, asked=asked)
    write_run(tmp_path / "c", "DPOP", judges={"list": (0.4, 0.1, 0)})
    folders = [tmp_path / name for name in "abc"]
    if what is None:
        write_report(folders, tmp_path / "out")
        return
    with pytest.raises(DataError, match=f"differ in {what}"):
        write_report(folders, tmp_path / "out")


def test_arms_without_a_common_seed_have_one_start(tmp_path: Path) -> None:
    write_run(tmp_path / "a/version_0", "DPO", 0, manifest={"policy": "p"})
    write_run(tmp_path / "b/version_0", "IPO", 1, manifest={"policy": "p"})
    write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    write_run(tmp_path / "c/version_0", "IPO", 1, manifest={"policy": "another"})
    with pytest.raises(DataError, match=r"without a common seed \(0, 1\).*the initial policy"):
        write_report([tmp_path / "a", tmp_path / "c"], tmp_path / "out")


@pytest.mark.usefixtures("no_figures")
def test_seeds_that_began_elsewhere_are_said_where_no_other_arm_shows_the_same(tmp_path: Path) -> None:
    folder = runs(tmp_path, seeds=2)
    said = "the initial policy differs between its seeds 0, 1, and no other arm"
    write_report([folder], tmp_path / "out")
    assert said not in (tmp_path / "out/report.html").read_text(), "every arm has a policy of its seed"
    shutil.rmtree(folder / "IPO/version_1")
    write_report([folder], tmp_path / "out")
    assert said in (tmp_path / "out/report.html").read_text()


@pytest.mark.usefixtures("no_figures")
def test_settings_that_differ_between_arms_are_said(tmp_path: Path) -> None:
    for name, rate in (("DPO", 0.1), ("IPO", 0.2)):
        optimizer = {"class_path": "O", "init_args": {"lr": rate}}
        model = {"objective": {"class_path": f"objectives.{name}"}, "policy": {"path": "tiny"}, "optimizer": optimizer}
        write_run(tmp_path / name / "version_0", name, config={"model": model})
    write_report([tmp_path], tmp_path / "out")
    text = (tmp_path / "out/report.html").read_text()
    assert "optimizer.init_args.lr differs: 0.1 in DPO; 0.2 in IPO" in text
    assert "objective.class_path differs" not in text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("key", ["limit_train_batches", "overfit_batches", "max_time", "devices", "num_nodes",
                                 "gradient_clip_algorithm"])  # fmt: skip
def test_what_changes_training_makes_an_arm(key: str, tmp_path: Path) -> None:
    write_run(tmp_path / "a/version_0", "DPO", 0, config={"trainer": {key: 1}})
    write_run(tmp_path / "b/version_0", "DPO", 1, config={"trainer": {key: 2}}, manifest={"policy": "policy0"})
    write_report([tmp_path], tmp_path / "out")
    assert {arm for arm, _ in table(tmp_path / "out")} == {f"DPO {key}=1", f"DPO {key}=2"}


@pytest.mark.usefixtures("no_figures")
def test_training_pairs_make_an_arm_where_seeds_do_not_tell(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / f"all{seed}/version_0", "DPO", seed)
        write_run(tmp_path / f"few{seed}/version_0", "DPO", seed, manifest={"data": {"train": "few", "val": "v"}})
    write_report([tmp_path], tmp_path / "out")
    lines = table(tmp_path / "out")
    assert {arm for arm, _ in lines} == {"DPO train=t", "DPO train=few"}
    assert {line["seeds"] for line in lines.values()} == {"0 1"}


def test_one_run_in_two_folders_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a/version_0")
    write_run(tmp_path / "b/version_1")
    with pytest.raises(DataError, match="neither is a newer version of the other"):
        write_report([tmp_path], tmp_path / "out")


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("data", [{"path": "other"}, {"path": "d", "max_length": 7}])
def test_validation_pairs_from_elsewhere_are_told_by_names(data: dict[str, object], tmp_path: Path) -> None:
    write_run(tmp_path / "a/version_0", "DPO", without=("run.json",))
    write_run(tmp_path / "b/version_0", "IPO", without=("run.json",), config={"data": data})
    with pytest.raises(DataError, match=r"data\.(path|max_length) in config\.yaml"):
        write_report([tmp_path], tmp_path / "out")


def test_training_data_from_elsewhere_is_no_other_validation(tmp_path: Path) -> None:
    for name, path in (("DPO", "p"), ("IPO", "q")):
        config = {"data": {"path": path, "val_path": "v"}}
        write_run(tmp_path / name / "version_0", name, without=("run.json",), config=config)
    write_report([tmp_path], tmp_path / "out")


def opened(home: Path, ends: dict[str, tuple[float, float]], seeds: int = 1, **options: object) -> str:
    """What a report opens with, of arms that end at these means of chosen and rejected."""
    for name, means in ends.items():
        for seed in range(seeds):
            shaken = (means[0], means[1] - 0.01 * seed * len(name))  # margins vary, chosen does not
            write_run(home / f"{name}/version_{seed}", name, seed, means=shaken, **options)  # type: ignore[arg-type]
    write_report([home], home / "out")
    return (home / "out/report.html").read_text().split('class="opening">')[1].split("</div>")[0]


@pytest.mark.usefixtures("no_figures")
def test_sentences_do_not_contradict_themselves(tmp_path: Path) -> None:
    text = opened(tmp_path / "one", {"DPO": (-1, -2), "IPO": (math.nan, math.nan)})
    assert "The margin changed by +1.00 nats [n = 1] under DPO, the only arm of which it is a number" in text
    assert "least" not in text
    text = opened(tmp_path / "same", {"DPO": (-1.001, -2), "IPO": (-1.002, -2)})
    assert "The margin changed alike, by +1.00 nats under" in text
    assert "the chosen log-probability changed alike, by −1.00 nats under" in text
    text = opened(tmp_path / "fell", {"DPO": (-3, -2), "IPO": (-1, -2), "KTO": (math.nan, -1)})
    assert "grew" not in text
    assert (
        "The margin changed by +1.00 nats [n = 1] under IPO, the highest, and by −1.00 nats [n = 1] under DPO" in text
    )
    assert "fell under 2 of 3 arms" in text


@pytest.mark.usefixtures("no_figures")
def test_refusals_alike_have_no_fewest_and_most(tmp_path: Path) -> None:
    text = opened(tmp_path, {"DPO": (-1, -2), "IPO": (-1, -3)}, judges={"j": (0.0, 0.0, 0)})
    assert "Refusals are 0.0% under DPO and IPO alike, as j judges." in text
    assert "fewest" not in text


@pytest.mark.usefixtures("no_figures")
def test_what_seeds_do_not_establish_is_not_said_to_be(tmp_path: Path) -> None:
    ends = {"DPO": (-1.0, -2.0), "SimPO": (-1.0, -5.0)}
    text = opened(tmp_path / "two", ends, 2, manifest={"policy": "p"})
    assert "Fewer than 3 common seeds establish nothing; differences from DPO are of margin for SimPO (+3.0" in text
    assert "Policy and pairs are the same at all seeds, so differences speak of the order of pairs alone." in text
    assert "Established" not in text
    text = opened(tmp_path / "three", ends, 3)
    assert "Established differences from DPO are those of margin for SimPO" in text
    assert "the order of pairs alone" not in text, "each seed has its policy"
    text = opened(tmp_path / "small", {"DPO": (-1.0, -2.0), "SimPO": (-1.0, -1.99)}, 3)
    assert "(0.00 nats" not in text


@pytest.mark.usefixtures("no_figures")
def test_other_training_pairs_are_compared_and_said(tmp_path: Path) -> None:
    write_run(tmp_path / "a/version_0", "DPO")
    write_run(tmp_path / "b/version_0", "IPO", manifest={"data": {"train": "fewer", "val": "v"}})
    write_report([tmp_path], tmp_path / "out")
    assert "training pairs differ between arms, at seeds 0" in (tmp_path / "out/report.html").read_text()


def test_runs_without_manifests_are_told_apart_by_their_configurations(tmp_path: Path) -> None:
    old = ("run.json", "trajectories.parquet", "mass.json", "moved_rows.jsonl")
    write_run(tmp_path / "a/version_0", "DPO", without=old)
    write_run(tmp_path / "b/version_0", "IPO", without=old)
    write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    text = (tmp_path / "out/report.html").read_text()
    for name in old:
        assert f"{name} is missing" in text
    assert "no arm has trajectories.parquet" in text
    assert {p.stem for p in (tmp_path / "out/figures").iterdir()} == {"tradeoff"}, "no empty figures"
    write_run(tmp_path / "c/version_0", "IPO", without=old, config={"data": {"val_path": "other.jsonl"}})
    with pytest.raises(DataError, match="data.val_path in config.yaml"):
        write_report([tmp_path / "a", tmp_path / "c"], tmp_path / "out")


def test_broken_files_are_gaps(tmp_path: Path) -> None:
    folder = runs(tmp_path, seeds=1)
    for name in ("trajectories.parquet", "mass.json", "run.json", "config.yaml"):
        (folder / "DPO/version_0" / name).write_bytes(b"\xff\x00 no such file {")
    (folder / "IPO/version_0/metrics.csv").write_bytes(b"step,displacement/chosen/val\n\x00\xff,\xff\n")
    with pytest.raises(ConfigError, match="none of these runs"):
        write_report([folder / "IPO"], tmp_path / "out")
    write_run(folder / "KTO/version_0", "KTO")
    write_report([folder], tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text()
    assert "its seed is not known" in text
    assert "cannot be read" in text


@pytest.mark.usefixtures("no_figures")
def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    folder = runs(tmp_path, ("DPO",), 1) / "DPO/version_0"
    whole = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(whole + "0.5,0.")
    write_report([folder], tmp_path / "out")
    assert table(tmp_path / "out")["DPO", "displacement/chosen"]["n"] == "1"


def test_a_figure_that_is_no_more_is_taken_away(tmp_path: Path) -> None:
    folder = runs(tmp_path, ("DPO",), 1)
    write_report([folder], tmp_path / "out")
    (folder / "DPO/version_0/mass.json").unlink()
    write_report([folder], tmp_path / "out")
    assert not (tmp_path / "out/figures/mass.png").exists()


def test_a_run_that_goes_on_has_the_curves_of_the_one_before(tmp_path: Path) -> None:
    """As where the earlier lines were not taken along; its own win where both have a step."""
    first = write_run(tmp_path / "r/version_0", steps=20, manifest={"finished": False})
    second = write_run(tmp_path / "r/version_1", steps=20, manifest={"continues": str(first), "steps": 20})
    (second / "trajectories.parquet").unlink()
    write_trajectories(second, {10: np.full((2, 40), -7.0), 20: np.full((2, 40), -9.0)}, np.arange(40.0))
    write_report([tmp_path / "r"], tmp_path / "out")
    with (tmp_path / "out/figures/trajectories.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["response"] == "chosen"]
    assert [line["step"] for line in lines] == ["0", "5", "10", "20"]
    assert [float(line["median"]) for line in lines[2:]] == [-7.0, -9.0]
    shutil.move(tmp_path / "r", tmp_path / "moved")
    write_report([tmp_path / "moved"], tmp_path / "again")
    assert (tmp_path / "again/figures/trajectories.csv").read_bytes() == (
        tmp_path / "out/figures/trajectories.csv"
    ).read_bytes()


def test_quantiles_of_curves_are_over_pairs_and_seeds(tmp_path: Path) -> None:
    folder = runs(tmp_path, ("DPO",), 2)
    ends = []
    for seed in range(2):
        values = np.random.default_rng(seed).normal(size=(2, 40))
        write_trajectories(folder / f"DPO/version_{seed}", {0: 0 * values, 20: values}, np.arange(40.0))
        ends.append(values[0])
    write_report([folder], tmp_path / "out")
    with (tmp_path / "out/figures/trajectories.csv").open() as file:
        line = [row for row in csv.DictReader(file) if row["response"] == "chosen"][-1]
    found = [float(line[key]) for key in ("q10", "median", "q90")]
    assert found == pytest.approx(np.quantile(np.concatenate(ends), [0.1, 0.5, 0.9]))
    assert line["n"] == "80"


def test_a_run_that_diverged_stays_a_run_that_diverged(tmp_path: Path) -> None:
    folder = runs(tmp_path, seeds=2)
    broken = folder / "IPO/version_1"
    nothing = np.full((2, 40), np.nan)
    write_trajectories(broken, {0: 0 * np.ones((2, 40)), 20: nothing}, np.arange(40.0))
    (broken / "metrics.csv").write_text(
        "step,displacement/chosen/val,displacement/margin/val\n0,0,0\n20,nan,nan\n".replace("20,", "20,", 1)
    )
    write_report([folder], tmp_path / "out")
    line = table(tmp_path / "out")["IPO", "displacement/chosen"]
    assert (line["n"], line["mean"]) == ("2", "nan"), "not the mean of the run that went well"
    assert "Under IPO it is no number." in (tmp_path / "out/report.html").read_text()
    assert math.isnan(scalars(nothing)["displacement/chosen/val"])


def compare_folder(home: Path, states: dict[str, object]) -> Path:
    out = home / "compare"
    lines = []
    for name in ("simpo", "dpo_beta=0.1", "dpo_beta=0.2", "failing"):
        for seed in range(2):
            objective, arguments = (
                ("SimPO", {}) if name == "simpo" else ("DPO", {"beta": float(name[-3:] if "=" in name else 1)})
            )
            write_run(out / f"arms/{name}_seed{seed}/version_0", objective, seed, arguments=arguments,
                      manifest=states if name == "failing" else {})  # fmt: skip
            failure = {"code": 4, "reason": "no <b>data</b>"} if name == "failing" else None
            folder = f"arms/{name}_seed{seed}"
            lines.append({"name": name, "seed": seed, "state": "failed" if failure else "done", "failure": failure,
                          "folder": folder, "run": None if failure else f"{folder}/version_0"})  # fmt: skip
    (out / "compare.json").write_text(json.dumps({"format": 1, "names": [], "arms": lines, "baseline": "simpo"}))
    return out


@pytest.mark.usefixtures("no_figures")
def test_a_comparison_names_and_orders_its_arms(tmp_path: Path) -> None:
    out = compare_folder(tmp_path, {"finished": False, "stopped_by": "DataError"})
    write_report(out, out / "report", baseline="simpo")
    arms = list(dict.fromkeys(arm for arm, _ in table(out / "report")))
    assert arms == ["simpo", "dpo_beta=0.1", "dpo_beta=0.2"]
    text = (out / "report/report.html").read_text()
    assert "failed with exit code 4: no &lt;b&gt;data&lt;/b&gt;" in text
    before = (out / "report/report.html").read_bytes()
    write_report(out, out / "report", baseline="simpo")
    assert (out / "report/report.html").read_bytes() == before, "a report is no run"


@pytest.mark.usefixtures("no_figures")
def test_a_baseline_that_failed_gives_way_to_the_first_arm(tmp_path: Path) -> None:
    out = compare_folder(tmp_path, {"finished": False})
    write_report(out, out / "report", baseline="failing")
    assert "others were to be compared with it, but no run of it ended" in (out / "report/report.html").read_text()


@pytest.mark.usefixtures("no_figures")
def test_a_comparison_that_was_interrupted_reads_like_one_that_was_not(tmp_path: Path) -> None:
    plain, killed = (compare_folder(tmp_path / name, {"finished": False}) for name in ("a", "b"))
    arm = killed / "arms/simpo_seed1"
    (arm / "version_0").rename(arm / "version_1")
    write_run(arm / "version_0", "SimPO", 1, arguments={}, manifest={"finished": False})
    manifest = json.loads((arm / "version_1/run.json").read_text())
    (arm / "version_1/run.json").write_text(json.dumps(manifest | {"continues": str(arm / "version_0")}))
    record = (killed / "compare.json").read_text()
    (killed / "compare.json").write_text(record.replace("simpo_seed1/version_0", "simpo_seed1/version_1"))
    for out in (plain, killed):
        (out / "arms/simpo_seed0/version_0/mass.json").unlink()  # which is said, with the name of the arm
        write_report(out, out / "report")
    for name in ("report.html", "report.md", "table.csv", "table.tex"):
        assert (plain / "report" / name).read_bytes() == (killed / "report" / name).read_bytes(), name
    assert "version_" not in (plain / "report/report.html").read_text()


@pytest.mark.usefixtures("no_figures")
def test_arms_of_an_earlier_plan_are_counted_and_left_out(tmp_path: Path) -> None:
    out = compare_folder(tmp_path, {"finished": False})
    for name in ("old_seed0", "old_seed1"):
        write_run(out / f"arms/{name}/version_0", "KTO", int(name[-1]), manifest={"policy": "another"})
    write_report(tmp_path, out / "report")
    assert "old" not in {arm for arm, _ in table(out / "report")}
    assert "2 arms' folders are not in the plan" in (out / "report/report.md").read_text().replace("&#39;", "'")
    shutil.rmtree(out / "arms/simpo_seed0")
    write_report(out, out / "report")
    assert "its folder is gone" in (out / "report/report.html").read_text()


def test_a_comparison_of_which_nothing_ended_has_no_report(tmp_path: Path) -> None:
    line = {"name": "dpo", "seed": 0, "state": "running", "folder": "arms/dpo_seed0", "run": None}
    (tmp_path / "compare.json").write_text(json.dumps({"arms": [line]}))
    write_run(tmp_path / "arms/dpo_seed0/version_0", manifest={"finished": False})
    with pytest.raises(ConfigError, match="no run of this comparison has come to its end"):
        write_report(tmp_path, tmp_path / "report")


@pytest.mark.parametrize("path", ["/etc", "../elsewhere", "a\0b", 7])
def test_a_plan_names_nothing_outside_its_folder(path: object, tmp_path: Path) -> None:
    line = {"name": "dpo", "seed": 0, "folder": path, "run": path}
    (tmp_path / "compare.json").write_text(json.dumps({"arms": [line]}))
    plan = read_plan(tmp_path)
    assert plan is not None
    assert plan.runs == []


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_another_goes_on_from_is_a_part_of_it(tmp_path: Path) -> None:
    first = write_run(tmp_path / "r/version_0", manifest={"finished": False, "stopped_by": "KeyboardInterrupt"})
    second = write_run(tmp_path / "r/version_1", manifest={"continues": str(first), "finished": False})
    write_run(tmp_path / "r/version_2", manifest={"continues": str(second)})
    write_report(tmp_path / "r", tmp_path / "out")
    assert "No run was left out." in (tmp_path / "out/report.md").read_text()
    third = write_run(tmp_path / "r/version_3", "IPO", manifest={"continues": str(tmp_path / "r/version_2")})
    write_run(tmp_path / "r/version_4", "IPO", manifest={"continues": str(third), "finished": False})
    write_report(tmp_path / "r", tmp_path / "out")
    assert {arm for arm, _ in table(tmp_path / "out")} == {"DPO", "IPO"}, "other settings are another arm"
    assert "version_4" in (tmp_path / "out/report.html").read_text(), "it did not end, and is no end of version_3"


class Page(HTMLParser):
    """Collects what could do harm."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form", "img", "image", "foreignobject", "a"):
            self.bad.append(tag)
        for name, value in attrs:
            text = (value or "").lower()
            if name.startswith("on") or "javascript:" in text or "//" in text:
                self.bad.append(f"{name}={value}")
            if name in ("href", "xlink:href", "src") and not text.startswith("#"):
                self.bad.append(f"{name}={value}")
            if name == "id":
                self.ids.append(str(value))


def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def hostile(_coarse: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every text is hostile: prompts, responses, tokens, names of arms, of judges and of folders."""
    home = tmp_path_factory.mktemp("hostile")
    for i, text in enumerate(HOSTILE):
        words = {"prompt": text, "chosen": HOSTILE[-1 - i], "rejected": text, "token": text}
        name = re.sub(r"[/\x00\ud800]", "", text)[:40]
        write_run(home / f"runs/{i} {name}/version_0", "DPO", 0, arguments={"note": text}, words=words,
                  judges={text.replace("/", ""): (0.5, 0.2, 1)} if i < 3 else {})  # fmt: skip
    write_report([home / "runs"], home / "out")
    return home / "out"


def test_hostile_texts_do_no_harm_in_html(hostile: Path, reported: Path) -> None:
    for folder in (hostile, reported):
        page = parsed(folder / "report.html")
        assert page.bad == []
        assert len(page.ids) == len(set(page.ids))
        assert page.tags.count("style") == 1
        text = (folder / "report.html").read_text(encoding="utf-8")
        assert not re.search(r"url\((?!#)", text)
    text = (hostile / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text, "it is shown as what it is"
    assert "{{ 7 * 7 }}" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "x" * 400 not in text


def test_hostile_texts_do_no_harm_in_figures(hostile: Path) -> None:
    from xml.etree import ElementTree

    for path in (hostile / "figures").glob("*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert not tags & {"script", "image", "a", "foreignObject"}, path.name


def test_hostile_texts_do_no_harm_in_csv(hostile: Path) -> None:
    for path in [hostile / "table.csv", *(hostile / "figures").glob("*.csv")]:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
        assert len({len(line) for line in lines}) == 1, path.name
        for cell in (cell for line in lines for cell in line):
            assert cell[:1] not in ("=", "@", "\t", "\r"), path.name
            if cell[:1] in ("+", "-"):
                float(cell)


def test_hostile_texts_do_no_harm_in_latex_and_markdown(hostile: Path) -> None:
    text = (hostile / "table.tex").read_text(encoding="utf-8")
    assert "\\input" not in text
    assert text.count("\\end{tabular}") == 1
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in text.splitlines() if line.endswith("\\\\")}
    assert len(columns) == 1
    text = (hostile / "report.md").read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.search(r"https?://|www\.", text)
    assert set(re.findall(r"\]\(([^)]*)\)", text)) <= {f"figures/{n}.{e}" for n in FIGURES for e in ("png", "csv")}
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


@pytest.mark.usefixtures("no_figures")
def test_hostile_texts_do_no_harm_on_a_terminal(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(hostile.parent / "runs"), "--out", str(hostile.parent / "again")])
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert output.replace("\n", "").replace("\t", "").isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_are_short_and_printable(text: str) -> None:
    for shown in (plain(text), token_text(text), latex(text), markdown(text), str(csv_cell(text))):
        assert shown.isprintable()
        assert shown.encode("utf-8")
    assert len(plain(text)) <= 80


def test_tokens_show_their_blanks() -> None:
    assert [token_text(t) for t in (" Sure", "Sure", "\n", "", "\u200b")] == ["␣Sure", "Sure", "⏎", "(empty)", "U+200B"]


def test_numbers_are_no_text() -> None:
    assert csv_cell(-1.5) == -1.5
    assert csv_cell("-1.5") == "'-1.5"


@pytest.mark.usefixtures("no_figures")
def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs(tmp_path)
    main(["report", str(folder)])
    output = capsys.readouterr().out
    assert "The margin grew most under DPO" in output
    assert f"Report: {folder}/report/report.html" in output
    header, *lines = [line.split("\t") for line in output.splitlines() if "\t" in line]
    assert header[:3] == ["arm", "seeds", "chosen (nats)"]
    assert [line[0] for line in lines] == ["DPO", "IPO"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "required: RUNS"),
        (["nowhere"], 2, "there is no such folder"),
        (["empty"], 2, "there is no run in it"),
        (["runs", "--baseline", "KTO"], 2, "Choices: DPO, IPO"),
        (["runs", "--loud"], 2, "unrecognized arguments"),
        (["differing"], 4, "cannot be compared"),
    ],
)
def test_failures_say_what_and_how_to_mend_it(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    runs(tmp_path, seeds=1)
    write_run(tmp_path / "differing/a/version_0", "DPO")
    write_run(tmp_path / "differing/b/version_0", "IPO", manifest={"policy": "another"})
    with pytest.raises(SystemExit) as caught:
        main(["report", *arguments])
    assert caught.value.code == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_options_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["report", "runs/a", "runs/b", "--out", "there", "--print_config"])
    assert caught.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"runs": ["runs/a", "runs/b"], "out": "there", "baseline": None}


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    runs(tmp_path, judges=JUDGES)
    code = (
        "import sys; from lit_pref.__main__ import main; main(['report', 'runs']); "
        "sys.exit(bool({'torch', 'lightning', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "runs/report/report.html").exists()


def test_twelve_arms_fit(tmp_path: Path) -> None:
    """No label overlaps another within any figure."""
    names = "DPO IPO SimPO DPOP KTO ORPO CPO SLiC BCO RDPO CalDPO ARatherLongNameOfALoss".split()
    document = writing.document_of([runs(tmp_path, tuple(names), 1, judges=JUDGES)], tmp_path / "out")
    for drawn, _ in document.drawings:
        figure = drawn.figure
        figure.draw_without_rendering()
        labels = [title for axes in figure.axes for title in (axes.title, axes._left_title)]  # type: ignore[attr-defined]
        for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
            labels += [tick.label1 for tick in axis._update_ticks()]  # those in view
        boxes = [(one.get_text(), one.get_window_extent()) for one in labels if one.get_text() and one.get_visible()]
        for i, (text, box) in enumerate(boxes):
            for other, its in boxes[:i]:
                assert not box.overlaps(its), f"{drawn.name}: {text!r} overlaps {other!r}"
