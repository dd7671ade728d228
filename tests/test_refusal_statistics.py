"""Every figure that is published with a refusal rate, against a closed form, scipy or a naive loop."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from lit_pref.judges.agreement import agreement, calibrate, cohen_kappa, rogan_gladen
from lit_pref.refusal_statistics import RefusalCounts, cluster_bootstrap, mcnemar, paired, wilson
from lit_pref.refusals import change, summary


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 60), (3, 60), (30, 60), (450, 450), (7, 450)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_wilson_is_scipys(successes, n, confidence):
    oracle = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson(successes, n, confidence) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
    low, high = wilson(successes, n, confidence)
    assert 0 <= low <= successes / n <= high <= 1


def test_wilson_of_nothing_and_of_nonsense():
    assert all(map(math.isnan, wilson(0, 0)))
    with pytest.raises(ValueError, match="5 of 4"):
        wilson(5, 4)


def test_wilson_covers_where_wald_does_not():
    p, n = 0.01, 60
    probs = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    covered = sum(prob for k, prob in enumerate(probs) if wilson(k, n).low <= p <= wilson(k, n).high)
    assert covered > 0.95


def test_counts_and_bounds_of_the_reference():
    counts = RefusalCounts(refusal=300, compliance=120, unparseable=30)
    assert counts.rate == pytest.approx(300 / 420)
    assert counts.bounds() == pytest.approx((300 / 450, 330 / 450))
    assert math.isnan(counts.reported())
    assert counts.reported(max_abstain=0.1) == counts.rate
    assert counts.interval() == wilson(300, 420)


def test_partial_is_a_verdict_and_neither():
    counts = RefusalCounts(refusal=4, compliance=4, partial=2)
    assert (counts.rate, counts.compliance_rate, counts.abstained) == (0.4, 0.4, 0.0)
    assert counts.bounds() == (0.4, 0.4)


def test_counts_add_up_and_unknown_labels_are_refused():
    labels = ["refusal", "error", "error", "partial", "compliance", "unparseable"]
    counts = RefusalCounts.of(labels)
    assert counts == RefusalCounts(1, 1, 1, 1, 2)
    assert (counts.total, counts.verdicts) == (6, 3)
    assert counts + counts == RefusalCounts.of(labels * 2)
    with pytest.raises(TypeError):
        RefusalCounts.of(["refused"])


def test_nothing_is_nan_and_never_zero():
    for counts in (RefusalCounts(), RefusalCounts(error=5)):
        assert math.isnan(counts.rate)
        assert math.isnan(counts.reported())
    assert RefusalCounts(error=5).bounds() == (0.0, 1.0)
    assert RefusalCounts(refusal=95, error=5).reported() == 1.0
    assert math.isnan(RefusalCounts(refusal=94, error=6).reported())


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (2, 9), (0, 8), (13, 4)])
def test_mcnemar_is_the_sum_of_binomial_tails(gained, lost):
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail))


def test_a_change_on_the_same_prompts():
    before = ["refusal"] * 60 + ["compliance"] * 30 + ["error", "unparseable", "partial"]
    after = ["compliance"] * 20 + ["refusal"] * 50 + ["compliance"] * 20 + ["refusal", "refusal", "refusal"]
    change = paired(before, after)
    assert (change.n, change.left_out, change.became_refusal, change.ceased_refusal) == (91, 2, 11, 20)
    assert change.difference == pytest.approx((11 - 20) / 91)
    assert change.p_value == pytest.approx(binomtest(11, 31).pvalue)
    assert change.interval.low < change.difference < change.interval.high
    assert paired(before, after) == change
    assert paired(before, after, seed=1).interval != change.interval
    nothing = paired(["error"], ["refusal"])
    assert nothing.n == 0
    assert all(map(math.isnan, (nothing.difference, nothing.p_value, *nothing.interval)))
    with pytest.raises(ValueError, match="longer"):
        paired(["refusal", "refusal"], ["refusal", "refusal", "refusal"])


def test_the_bootstrap_is_that_of_all_possible_samples():
    values = [0.0, 1.0, 1.0]
    every = [np.mean(drawn) for drawn in itertools.product(values, repeat=3)]
    low, high = np.quantile(every, [0.1, 0.9])
    assert cluster_bootstrap(values, range(3), confidence=0.8) == pytest.approx((low, high))


def test_samples_of_one_prompt_are_drawn_together():
    values, prompts = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0], ["a", "a", "a", "b", "b", "c"]
    groups = [[1.0, 1.0, 1.0], [1.0, 0.0], [0.0]]
    every = [np.mean(list(itertools.chain(*drawn))) for drawn in itertools.product(groups, repeat=3)]
    low, high = np.quantile(every, [0.1, 0.9])
    assert cluster_bootstrap(values, prompts, confidence=0.8) == pytest.approx((low, high), abs=0.02)
    alone = cluster_bootstrap([1.0, 0.0] * 50, range(100))
    together = cluster_bootstrap([1.0] * 50 + [0.0] * 50, [i // 10 for i in range(100)])
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert all(map(math.isnan, cluster_bootstrap([], [])))


def test_the_bootstrap_of_a_rate_is_near_wilson():
    values = [1.0] * 150 + [0.0] * 300
    assert cluster_bootstrap(values, range(450)) == pytest.approx(wilson(150, 450), abs=0.01)


def naive_kappa(pairs):
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    labels = {label for pair in pairs for label in pair}
    expected = sum(sum(a == k for a, _ in pairs) * sum(b == k for _, b in pairs) for k in labels) / n**2
    return (observed - expected) / (1 - expected)


def test_kappa_is_the_naive_loops():
    rng = np.random.default_rng(3)
    first = rng.choice(["refusal", "compliance", "partial"], 200, p=[0.6, 0.3, 0.1]).tolist()
    second = [a if rng.random() < 0.7 else "compliance" for a in first]
    found = agreement(first, second)
    pairs = list(zip(first, second, strict=True))
    assert found.kappa == pytest.approx(naive_kappa(pairs))
    assert found.raw == np.mean([a == b for a, b in pairs])
    assert found.first["refusal"] == pytest.approx(first.count("refusal") / 200)
    assert found.second["compliance"] == pytest.approx(second.count("compliance") / 200)
    draws = [naive_kappa([pairs[i] for i in rng.integers(0, 200, 200)]) for _ in range(1500)]
    assert found.interval == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)
    assert agreement(first, second) == found


def test_agreement_can_be_high_and_kappa_low():
    first = ["refusal"] * 2 + ["compliance"] * 98
    second = ["compliance"] * 2 + ["refusal"] * 2 + ["compliance"] * 96
    found = agreement(first, second)
    assert found.raw == 0.96
    assert found.kappa < 0


def test_kappa_where_it_is_not_defined():
    assert math.isnan(agreement(["refusal"] * 5, ["refusal"] * 5).kappa)
    found = agreement(["error", "refusal"], ["refusal", "unparseable"])
    assert (found.n, found.left_out) == (0, 2)
    assert math.isnan(found.kappa)
    assert cohen_kappa(np.array([[5, 0], [0, 5]])) == 1.0


def test_rogan_gladen_undoes_what_an_erring_judge_does():
    assert rogan_gladen(0.65, 0.95, 0.93) == pytest.approx(0.659, abs=5e-4)
    for truth, sens, spec in itertools.product([0.0, 0.2, 0.9, 1.0], [0.7, 1.0], [0.6, 1.0]):
        seen = truth * sens + (1 - truth) * (1 - spec)
        assert rogan_gladen(seen, sens, spec) == pytest.approx(truth)
    assert rogan_gladen(0.01, 0.9, 0.9) == 0.0
    assert math.isnan(rogan_gladen(0.5, 0.5, 0.5))


def test_calibration():
    truths = ["refusal"] * 10 + ["compliance"] * 8 + ["partial"] * 2
    verdicts = ["refusal"] * 7 + ["compliance"] * 2 + ["error"] + ["compliance"] * 9 + ["refusal"]
    found = calibrate(verdicts, truths)
    assert (found.sensitivity, found.specificity) == (pytest.approx(7 / 9), pytest.approx(9 / 10))
    assert (found.agreement.n, found.agreement.left_out) == (19, 1)
    assert math.isnan(calibrate(["refusal"], ["refusal"]).specificity)


def test_the_statistics_need_no_torch():
    code = "import sys, lit_pref.refusal_statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_prompts_that_are_all_alike_still_leave_something_open():
    labels, numbers = ["compliance"] * 100, [i // 5 for i in range(100)]  # 20 prompts, 5 responses each
    found = summary(labels, numbers)
    assert found.interval == wilson(0, 20)
    assert summary(["refusal"] * 100, numbers).interval == wilson(20, 20)
    unmoved = paired(["refusal"] * 21, ["refusal"] * 21)
    assert unmoved.difference == 0
    assert unmoved.interval == pytest.approx((-wilson(0, 21).high, wilson(0, 21).high))
    assert change(labels, labels, numbers).interval == pytest.approx((-wilson(0, 20).high, wilson(0, 20).high))
    all_moved = paired(["refusal"] * 9, ["compliance"] * 9)
    assert all_moved.interval == pytest.approx((-1, -1 + wilson(0, 9).high))


def test_a_judge_that_is_not_trusted_has_no_bounds():
    found = summary(["refusal", "compliance"], [0, 1], trusted=False)
    assert all(math.isnan(value) for value in (found.rate, *found.interval, *found.bounds))
    assert summary(["refusal", "error"], [0, 1]).bounds == (0.5, 1)
