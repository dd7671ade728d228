"""Statistics of reports against scipy, against the bootstrap of evidence, and against numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from lit_pref.refusal_statistics import wilson
from lit_pref.report.refusals import Rate, bar
from lit_pref.report.statistics import difference, estimate, holm


@pytest.mark.parametrize("n", [2, 3, 7])
def test_the_interval_is_students(n: int) -> None:
    values = np.random.default_rng(n).normal(3, 2, n).tolist()
    found = estimate(values)
    low, high = stats.t.interval(0.95, n - 1, np.mean(values), stats.sem(values))
    assert found == pytest.approx((n, np.mean(values), low, high))


def test_one_seed_has_a_mean_and_no_interval() -> None:
    assert estimate([2.5])[:2] == (1, 2.5)
    assert all(map(math.isnan, estimate([2.5])[2:]))
    assert math.isnan(estimate([]).mean)


def test_what_is_no_number_is_not_left_out() -> None:
    assert math.isnan(estimate([1.0, math.nan, 2.0]).mean)
    assert estimate([1.0, -math.inf]).mean == -math.inf
    assert math.isnan(estimate([1.0, -math.inf]).low)


@pytest.mark.parametrize("n", [2, 3, 9])
def test_differences_are_those_of_the_paired_t_test(n: int) -> None:
    generator = np.random.default_rng(n)
    a, b = generator.normal(size=(2, n))
    found = difference(dict(enumerate(a)), dict(enumerate(b)) | {99: 5.0})
    theirs = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(theirs.pvalue)
    assert found[:2] == pytest.approx((n, (a - b).mean()))
    assert found[2:4] == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_differences_without_variation_have_no_test() -> None:
    found = difference({0: 1.5, 1: 2.5, 2: 3.5}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert found.mean == 0.5
    assert math.isnan(found.p)
    assert math.isnan(difference({0: 1.1, 1: 1.1 + 0.1}, {0: 1.0, 1: 1.0 + 0.1}).p), "rounding is no variation"
    assert math.isnan(difference({0: 1.0}, {0: 2.0}).p)
    assert difference({0: 1.0}, {1: 2.0}).n == 0


def test_a_sum_in_another_order_is_no_variation() -> None:
    theirs = {0: -0.63, 1: -0.63 + 2e-6, 2: -0.63 - 1e-6}
    ours = {0: -0.64, 1: -0.64 - 1e-6, 2: -0.64}
    assert math.isnan(difference(ours, theirs).p), "float32 rounds there, and a seed may permute the sum"
    assert not math.isnan(difference(ours | {2: -0.65}, theirs).p)


def test_holm_by_hand() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06 and 0.04 x 1, which may not be below those before it."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_does_not_count_what_was_not_tested() -> None:
    found = holm([math.nan, 0.02, 0.03])
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([0.04, 0.04])


def rate(value: float, low: float = 0.1, high: float = 0.9, verdicts: float = 50) -> Rate:
    return Rate(value, low, high, value, 0.0, 50, verdicts)


def test_one_run_keeps_its_interval_and_several_have_that_of_one_runs_prompts() -> None:
    assert bar([rate(0.4, 0.3, 0.5)])[:4] == (1, 0.4, 0.3, 0.5)
    found = bar([rate(0.4), rate(0.6)])
    assert found[:2] == (2, 0.5)
    assert found[2:4] == pytest.approx(wilson(25, 50)), "not 50 of 100: they are the same prompts"


def test_a_rate_that_one_run_lacks_is_lacking() -> None:
    found = bar([rate(0.4), rate(math.nan)])
    assert math.isnan(found.rate)
    assert math.isnan(found.low)
