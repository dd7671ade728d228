"""Evidence: rank correlations, their bootstrap, AUC, figures and sentences, each against another way to get it."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from lit_pref import evidence as module
from lit_pref.evidence import Evidence, Ranks, auc, evidence_of, spearman_interval
from lit_pref.evidence_figure import FELL, MOST_POINTS, ROSE, pixels, scatter
from lit_pref.evidence_sentence import level_for, sentence


def drawn(n: int, strength: float, seed: int = 0, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two columns with ties."""
    generator = np.random.default_rng(seed)
    a = generator.normal(size=n)
    return np.round(a, decimals), np.round(strength * a + generator.normal(size=n), decimals)


def naive_auc(values: np.ndarray, positive: np.ndarray) -> float:
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0 for a in values[positive] for b in values[~positive]
    ]  # fmt: skip
    return sum(wins) / len(wins)


@pytest.mark.parametrize("n", [7, 50, 203])
def test_auc_is_that_of_a_double_loop(n: int) -> None:
    values, fall = drawn(n, 0.5, seed=n)
    assert (values[fall > 0][:, None] == values[fall <= 0]).any() or n < 20, "ties are what the half is for"
    assert auc(values, fall > 0) == pytest.approx(naive_auc(values, fall > 0), abs=1e-12)


def test_auc_of_one_kind_is_no_number() -> None:
    assert np.isnan(auc([1.0, 2.0], [True, True]))
    assert np.isnan(auc([1.0, 2.0], [False, False]))
    assert auc([1.0, 2.0], [False, True]) == 1.0


@pytest.mark.parametrize("n", [5, 60])
def test_ranks_of_a_resample_are_those_of_sorting_it(n: int) -> None:
    values, _ = drawn(n, 0.0, seed=n)
    places = np.random.default_rng(1).integers(0, n, (4, n))
    weights = np.stack([np.bincount(row, minlength=n) for row in places])
    ranks = Ranks(values).of(weights)
    expected = rankdata(values[places], axis=1)
    assert np.array_equal(np.take_along_axis(ranks, places, 1), expected)


def test_spearman_and_its_interval_are_those_of_scipy() -> None:
    a, b = drawn(40, 0.7)
    found = evidence_of(a, b, resamples=300, seed=5)
    assert found.spearman == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    places = np.random.default_rng(5).integers(0, 40, (300, 40))
    values = [spearmanr(a[row], b[row]).statistic for row in places]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)


def test_positive_means_that_higher_values_fell_more() -> None:
    values = np.arange(20.0)
    found = evidence_of(values, fall=values - 10)
    assert found.spearman == pytest.approx(1)
    assert found.auc == 1
    assert found.predicts


def test_the_interval_covers_in_about_95_of_100_samples() -> None:
    """Of bivariate normals with correlation 0.6, whose rank correlation is known."""
    truth = 6 / np.pi * np.arcsin(0.3)
    covered = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        a = generator.normal(size=80)
        b = 0.6 * a + 0.8 * generator.normal(size=80)
        low, high = spearman_interval(a, b, 200, seed)
        covered += low <= truth <= high
    assert 180 <= covered <= 198


def test_the_bootstrap_is_of_its_seed_and_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = drawn(50, 0.4)
    assert spearman_interval(a, b, 100, 0) == spearman_interval(a, b, 100, 0)
    assert spearman_interval(a, b, 100, 0) != spearman_interval(a, b, 100, 1)
    sizes: list[int] = []
    original = module._weighted_correlations

    def count(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        sizes.append(len(weights))
        assert (weights.sum(1) == 50).all()
        return original(x, y, weights)

    monkeypatch.setattr(module, "_weighted_correlations", count)
    monkeypatch.setattr(module, "ENTRIES_PER_BLOCK", 50 * 30)
    low, high = spearman_interval(a, b, 100, 0)
    assert sizes == [30, 30, 30, 10]
    assert -1 < low < high < 1


def test_what_is_no_number_is_left_out() -> None:
    a, b = drawn(40, 0.7)
    holes = np.where(np.arange(40) % 4 == 0, np.nan, a)
    falls = np.where(np.arange(40) % 5 == 1, -np.inf, b)
    both = np.isfinite(holes) & np.isfinite(falls)
    assert evidence_of(holes, falls) == evidence_of(a[both], b[both])
    assert evidence_of(holes, falls).pairs == both.sum() < 40


@pytest.mark.parametrize(
    ("values", "fall"),
    [([1.0, 2.0], [1.0, -1.0]), ([], []), ([3.0] * 9, list(range(9))), ([np.nan] * 5, [1.0] * 5)],
    ids=["two", "none", "constant", "nan"],
)
def test_too_little_is_no_evidence(values: list[float], fall: list[float]) -> None:
    found = evidence_of(values, fall)
    assert np.isnan([found.spearman, found.low, found.high]).all()
    assert not found.predicts


def test_a_higher_level_gives_a_wider_interval() -> None:
    a, b = drawn(60, 0.5)
    narrow, wide = evidence_of(a, b, 2000), evidence_of(a, b, 2000, level=level_for(4))
    assert (narrow.level, wide.level) == (0.95, pytest.approx(0.9875))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.spearman == narrow.spearman


def test_of_measures_that_tell_nothing_one_in_twenty_runs_claims_something() -> None:
    """Not one in five, as with four intervals of 95% each."""
    claims = {0.95: 0, level_for(4): 0}
    for seed in range(100):
        generator = np.random.default_rng(seed)
        fall = generator.normal(size=150)
        columns = [generator.normal(size=150) for _ in range(4)]
        for level in claims:
            found = [evidence_of(column, fall, 500, level=level) for column in columns]
            claims[level] += any(e.predicts or e.opposes for e in found)
    assert claims[0.95] > 12
    assert claims[level_for(4)] <= 10


SAID = {
    "good": Evidence(0.41, 0.22, 0.57, 0.7, 360),
    "better": Evidence(0.5, 0.4, 0.6, 0.8, 1360),
    "none": Evidence(0.1, -0.1, 0.3, 0.55, 360),
    "worse": Evidence(-0.5, -0.6, -0.4, 0.2, 360),
    "inverse": Evidence(-0.4, -0.5, -0.3, 0.3, 360),
    "nothing": Evidence(np.nan, np.nan, np.nan, np.nan, 360),
}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["good", "better", "none"], "Over the run, of good, better, none: better and good predicted in part which chosen responses fell (better: Spearman +0.50, 98.33% interval +0.40 to +0.60, corrected for 3 measures, 1,360 pairs); whether one measure is better than another was not tested."),  # noqa: E501
        (["good"], "Over the run: good predicted in part which chosen responses fell (Spearman +0.41, 95% interval +0.22 to +0.57, 360 pairs)."),  # noqa: E501
        (["none", "nothing"], "Over the run, of none, nothing: no measure predicted which chosen responses fell (none: Spearman +0.10, 97.5% interval -0.10 to +0.30, corrected for 2 measures, 360 pairs)."),  # noqa: E501
        (["none", "inverse"], "no measure predicted which chosen responses fell (none: Spearman +0.10, 97.5% interval -0.10 to +0.30, corrected for 2 measures, 360 pairs); inverse predicted the opposite: pairs that it finds more alike fell less (inverse: Spearman -0.40, 97.5% interval -0.50 to -0.30, corrected for 2 measures, 360 pairs); whether"),  # noqa: E501
        (["inverse"], "Over the run: inverse predicted the opposite: pairs that it finds more alike fell less (Spearman -0.40, 95% interval -0.50 to -0.30, 360 pairs)."),  # noqa: E501
        (["inverse", "good"], "good predicted in part which chosen responses fell (good: Spearman +0.41, 97.5% interval +0.22 to +0.57, corrected for 2 measures, 360 pairs); inverse predicted the opposite"),  # noqa: E501
        (["worse", "inverse"], "Over the run, of worse, inverse: worse and inverse predicted the opposite: pairs that they find more alike fell less (worse: Spearman -0.50"),  # noqa: E501
        (["nothing"], "no measure can be judged"),
    ],
)  # fmt: skip
def test_sentences_claim_what_intervals_allow(names: list[str], expected: str) -> None:
    said = sentence({name: SAID[name]._replace(level=level_for(len(names))) for name in names})
    assert expected in said
    assert "\n" not in said


def points(axes: Any) -> dict[str, int]:
    from matplotlib.colors import to_hex

    return {
        to_hex(c.get_facecolor()[0]).upper(): len(c.get_offsets()) for c in axes.collections if len(c.get_offsets())
    }


def test_the_figure_has_a_panel_a_measure_and_says_the_numbers() -> None:
    a, fall = drawn(300, 0.8, decimals=6)
    values = {"ches": a, "mine": np.full(300, np.nan), "ln_ches": a}
    found = {name: evidence_of(v, fall) for name, v in values.items()}
    figure = scatter(values, -fall, found)
    panels = figure.axes
    assert [p.get_xlabel() for p in panels] == [
        "CHES, before the epoch",
        "mine, before the epoch",
        "length-normalised CHES, before the epoch",
    ]
    e = found["ches"]
    said = f"Spearman with fall {e.spearman:+.2f} [{e.low:+.2f}, {e.high:+.2f}], AUC {e.auc:.2f}"
    assert panels[0].get_title() == said
    assert "undefined" in panels[1].get_title()
    assert points(panels[0]) == {FELL: int((fall > 0).sum()), ROSE: int((fall <= 0).sum())}
    assert points(panels[1]) == {}
    image = pixels(figure)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert image.std() > 5, "something is drawn"
    from matplotlib import pyplot

    assert pyplot.get_fignums() == [], "nothing is left in global state"


def test_many_points_are_thinned_alike_every_time() -> None:
    a, fall = drawn(4 * MOST_POINTS + 1, 0.5, decimals=6)
    found = {"ches": evidence_of(a, fall, resamples=2)}
    images = [pixels(scatter({"ches": a}, -fall, found)) for _ in range(2)]
    assert np.array_equal(*images)
    assert MOST_POINTS / 2 < sum(points(scatter({"ches": a}, -fall, found).axes[0]).values()) <= MOST_POINTS
