"""The charts of the Custom Scalars page show what a run logs, and judges have theirs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from callbacks import Dashboard, Displacement, MassShift, RefusalRate
from callbacks.dashboard import LAYOUT, LOGGED_BY, layout
from lit_pref.cli import run as run_cli
from lit_pref.judges import KeywordJudge

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "custom_scalars__config__"


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> EventAccumulator:
    """What TensorBoard reads of a refusal quickstart of two steps."""
    root = tmp_path_factory.mktemp("runs")
    config = ROOT / "configs/refusal_quickstart.yaml"
    run_cli(["fit", f"-c={config}", f"--run.root={root}", "--trainer.max_steps=2"])
    (events,) = root.rglob("events.out.tfevents.*")
    return EventAccumulator(str(events.parent), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def written(events: EventAccumulator) -> Any:
    """The layout as TensorBoard's plugin reads it: the first one of a run."""
    return layout_pb2.Layout.FromString(events.Tensors(CONFIG)[0].tensor_proto.string_val[0])


def tags_of(chart: Any) -> list[str]:
    bands = [tag for s in chart.margin.series for tag in (s.value, s.lower, s.upper)]
    return bands + list(chart.multiline.tag)


def test_refusals_have_charts_of_tags_that_are_logged(quickstart: EventAccumulator) -> None:
    categories = {category.title: category for category in written(quickstart).category}
    assert list(categories)[:2] == ["Likelihood displacement", "Refusals"]
    assert len(categories) == len(LAYOUT) + 1
    charts = {chart.title: tags_of(chart) for chart in categories["Refusals"].chart}
    judges = ["classifier_judge", next(t for t in charts if "keyword" in t).split(", ")[1]]
    kinds = ("refusal rate, {}, 95%", "over-refusal rate, {}, 95%", "responses without a verdict, {}")
    assert list(charts) == [kind.format(judge) for judge in judges for kind in kinds]
    assert charts["over-refusal rate, classifier_judge, 95%"] == [
        f"refusal/over_{part}_classifier_judge/val" for part in ("rate", "low", "high")
    ]
    logged = quickstart.Tags()["scalars"]
    shown = [tag for tags in charts.values() for tag in tags]
    assert len(shown) == len(set(shown)) == 2 * (2 * 3 + 4)
    assert set(shown) <= set(logged)
    for tag in shown:
        values = [event.value for event in quickstart.Scalars(tag)]
        assert len(values) == 2, "before training and after"
        assert all(value == value for value in values)


def test_every_rate_and_abstention_that_is_logged_is_shown(quickstart: EventAccumulator) -> None:
    (category,) = [category for category in written(quickstart).category if category.title == "Refusals"]
    shown = {tag for chart in category.chart for tag in tags_of(chart)}
    beginnings = [f"refusal/{over}{part}_" for over in ("", "over_") for part in ("rate", "low", "high")]
    beginnings += [f"judge/{over}{part}_" for over in ("", "over_") for part in ("unparseable", "error")]
    assert {tag for tag in quickstart.Tags()["scalars"] if tag.startswith(tuple(beginnings))} == shown


def test_bands_hold_their_values(quickstart: EventAccumulator) -> None:
    (category,) = [category for category in written(quickstart).category if category.title == "Refusals"]
    bands = [series for chart in category.chart for series in chart.margin.series]
    assert len(bands) == 4
    for band in bands:
        value, low, high = ([e.value for e in quickstart.Scalars(t)] for t in (band.value, band.lower, band.upper))
        assert all(a <= b <= c for a, b, c in zip(low, value, high, strict=True))


def test_a_run_has_no_chart_of_what_it_does_not_log() -> None:
    trainer: Any = SimpleNamespace(callbacks=[Dashboard(), MassShift(), Displacement()])
    found = layout(trainer)
    assert list(found) == ["Likelihood displacement", "Objective"]
    first = list(LAYOUT["Likelihood displacement"])
    assert list(found["Likelihood displacement"]) == [title for title in first if "log-probability, " not in title]
    assert list(found["Objective"]) == ["loss"]
    everything = [make() for make in dict.fromkeys(LOGGED_BY.values())]
    assert layout(SimpleNamespace(callbacks=everything)) == LAYOUT  # type: ignore[arg-type]


def test_every_tag_of_the_layout_is_of_a_callback_that_is_known() -> None:
    families = {tag.split("/")[0] for charts in LAYOUT.values() for _, tags in charts.values() for tag in tags}
    assert families == {*LOGGED_BY, "loss"}


def test_without_harmless_prompts_there_is_no_over_refusal(tmp_path: Path) -> None:
    judges = [KeywordJudge(), KeywordJudge(window=10)]
    rates = RefusalRate("prompts.jsonl", judges, cache=str(tmp_path / "v.sqlite"))  # type: ignore[arg-type]
    trainer: Any = SimpleNamespace(callbacks=[Dashboard(), rates])
    found = layout(trainer)["Refusals"]
    assert len(found) == 4
    assert not any("over" in tag for _, tags in found.values() for tag in tags)
    assert len({tag for _, tags in found.values() for tag in tags}) == 2 * (3 + 2), "equal names are told apart"
