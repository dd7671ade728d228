"""Rules that choose pairs by their scores, their controls, and the labels that reach them from the data."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_pref.data.columns import Columns
from lit_pref.data.datamodule import PreferenceData
from lit_pref.data.rows import DataError
from lit_pref.errors import ConfigError
from lit_pref.pruning import (
    AtMost,
    Candidates,
    Choice,
    ClassMatched,
    FractionSchedule,
    HighestScores,
    LengthMatched,
    LowestCount,
    LowestFraction,
    QuantileWindow,
    RandomSubset,
    Rule,
    Stratified,
)

NAN = float("nan")


def candidates(scores: Any, epoch: int = 0, seed: int = 0, **labels: list[str | None]) -> Candidates:
    """Pairs in rows 10, 11, ...; chosen lengths count 1, 2, 3, 1, 2, 3, ..., rejected ones go up by one each."""
    scores = torch.as_tensor(scores, dtype=torch.float64)
    n = len(scores)
    rows, numbers = torch.arange(10, 10 + n), torch.arange(n)
    return Candidates(rows, scores, numbers % 3 + 1, numbers + 1, labels, epoch, seed)


def random_scores(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def places(choice: Choice) -> list[int]:
    assert len(choice.reasons) == len(choice.kept)
    return choice.kept.nonzero().flatten().tolist()


ALL_RULES: list[Rule] = [
    LowestFraction(0.3), LowestCount(3), AtMost(0.0), QuantileWindow(0.5, 3), FractionSchedule([0.5, 0.25]),
    Stratified(LowestFraction(0.3), "kind"), HighestScores(LowestCount(3)), RandomSubset(LowestCount(3)),
    ClassMatched(LowestCount(3), "kind"), LengthMatched(LowestCount(3), 2),
]  # fmt: skip


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: type(rule).__name__)
def test_every_rule_decides_on_every_pair_and_gives_a_reason(rule: Rule) -> None:
    given = candidates(random_scores(11), kind=["a", "b", None, "a"] * 2 + ["a", "b", "a"])
    before = [values.clone() for values in given[:4]]
    choice, again = rule.choose(given), rule.choose(given)
    assert choice.kept.dtype == torch.bool
    assert choice.kept.shape == (11,)
    assert 0 < choice.kept.sum() < 11
    assert all(choice.reasons)
    kept, left = ({r for r, k in zip(choice.reasons, choice.kept.tolist(), strict=True) if k is want}
                  for want in (True, False))  # fmt: skip
    assert not kept & left, "no reason is given both to stay and to go"
    assert torch.equal(choice.kept, again.kept)
    assert all(torch.equal(a, b) for a, b in zip(before, given[:4], strict=True)), "what is given stays as it is"


# --- by score -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pairs", "kept"), [(370, 19), (380, 19), (381, 20), (20, 1), (1, 1)])
def test_five_per_cent_are_rounded_up_as_in_the_paper(pairs: int, kept: int) -> None:
    scores = random_scores(pairs)
    choice = LowestFraction(0.05).choose(candidates(scores))
    assert int(choice.kept.sum()) == kept
    assert scores[choice.kept].max() <= scores[~choice.kept].min() if pairs > 1 else True


@pytest.mark.parametrize(("fraction", "pairs", "kept"), [(0.07, 100, 7), (0.55, 100, 55), (0.14, 50, 7), (0.7, 10, 7)])
def test_a_share_that_comes_out_even_is_not_rounded_up_by_its_representation(
    fraction: float, pairs: int, kept: int
) -> None:
    """0.07 * 100 is 7.000000000000001."""
    assert int(LowestFraction(fraction).choose(candidates(random_scores(pairs))).kept.sum()) == kept


def test_a_share_of_one_keeps_all() -> None:
    assert LowestFraction(1.0).choose(candidates([3, 1, 2])).kept.all()


def test_equal_scores_go_to_the_lower_rows() -> None:
    assert places(LowestCount(3).choose(candidates([1, 0, 1, 0, 1, 1]))) == [0, 1, 3]
    assert places(LowestCount(2).choose(candidates([5.0] * 300))) == [0, 1]
    assert places(QuantileWindow(0.0, 2).choose(candidates([1, 1, 1, 1]))) == [0, 1]


def test_lowest_count_keeps_all_where_there_are_fewer() -> None:
    assert LowestCount(9).choose(candidates([3, 1, 2])).kept.all()


def test_at_most_includes_its_threshold() -> None:
    choice = AtMost(2.0).choose(candidates([3, 1, 2, NAN]))
    assert places(choice) == [1, 2]
    assert choice.reasons == ["not at most 2", "at most 2", "at most 2", "no score"]


@pytest.mark.parametrize(
    "rule",
    [LowestFraction(1.0), LowestCount(99), AtMost(1e9), QuantileWindow(0.5, 99), FractionSchedule([1.0]),
     HighestScores(LowestCount(99)), Stratified(LowestCount(99), "kind")],
    ids=lambda rule: type(rule).__name__,
)  # fmt: skip
def test_a_pair_without_a_score_is_never_kept_by_what_reads_scores(rule: Rule) -> None:
    choice = rule.choose(candidates([NAN, 1, NAN, 2, 0], kind=["a", "a", "b", "b", "b"]))
    assert places(choice) == [1, 3, 4]


def test_the_share_counts_pairs_without_a_score_too() -> None:
    """Half of six pairs is three, though only four have a score."""
    assert places(LowestFraction(0.5).choose(candidates([NAN, 4, NAN, 2, 1, 3]))) == [3, 4, 5]


@pytest.mark.parametrize(
    ("quantile", "expected"),
    [(0.0, range(4)), (0.25, range(1, 5)), (0.5, range(4, 8)), (0.75, range(6, 10)), (1.0, range(8, 12))],
)
def test_a_window_is_moved_inwards_at_the_ends(quantile: float, expected: range) -> None:
    """Twelve sorted scores, four a window: centred at round(q * 11), from two before it."""
    scores = torch.arange(12.0)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    choice = QuantileWindow(quantile, 4).choose(candidates(scores[order]))
    assert sorted(scores[order][choice.kept].tolist()) == [float(i) for i in expected]


@pytest.mark.parametrize(("n", "count"), [(1000, 512), (300, 512), (513, 512), (5, 1), (6, 3)])
@pytest.mark.parametrize("quantile", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_windows_are_slices_of_the_sorted_scores(n: int, count: int, quantile: float) -> None:
    """The paper's slice [idx - count/2, idx + count/2) at idx = round(q(N-1)), clamped: written out a second time."""
    scores = random_scores(n, seed=n)
    middle = round(quantile * (n - 1))
    start = sorted([0, middle - count // 2, max(n - count, 0)])[1]
    expected = scores.sort().values[start : start + count]
    choice = QuantileWindow(quantile, count).choose(candidates(scores))
    assert int(choice.kept.sum()) == min(n, count)
    assert torch.equal(scores[choice.kept].sort().values, expected)


def test_a_schedule_has_a_share_an_epoch_and_its_last_one_stays() -> None:
    rule = FractionSchedule([1.0, 0.5, 0.25])
    kept = [int(rule.choose(candidates(random_scores(20), epoch)).kept.sum()) for epoch in range(5)]
    assert kept == [20, 10, 5, 5, 5]


def test_stratified_prunes_each_class_alone() -> None:
    scores = [1, 2, 3, 4, 101, 102, 103, 104, 7]
    kinds: list[str | None] = ["a"] * 4 + ["b"] * 4 + [None]
    choice = Stratified(LowestFraction(0.5), "kind").choose(candidates(scores, kind=kinds))
    assert places(choice) == [0, 1, 4, 5, 8]
    assert choice.reasons[0] == "lowest 0.5 of kind 'a'"
    assert choice.reasons[7] == "not lowest 0.5 of kind 'b'"
    assert choice.reasons[8] == "lowest 0.5 of kind None"
    assert places(LowestFraction(0.5).choose(candidates(scores))) == [0, 1, 2, 3, 8], "or one class would be gone"


def test_rules_nest() -> None:
    given = candidates([1, 2, 3, 4, 11, 12, 13, 14], kind=["a", "b"] * 4)
    rule = Stratified(HighestScores(LowestFraction(0.5)), "kind")
    assert places(rule.choose(given)) == [4, 5, 6, 7]


# --- controls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", [RandomSubset, HighestScores, LengthMatched])
def test_controls_keep_as_many_as_their_rule(control: Any) -> None:
    given = candidates(random_scores(41))
    for rule in (LowestFraction(0.25), LowestCount(7), AtMost(0.3)):
        assert control(rule).choose(given).kept.sum() == rule.choose(given).kept.sum()


def test_highest_scores_are_the_other_end() -> None:
    assert places(HighestScores(LowestCount(2)).choose(candidates([3, 1, NAN, 2, 5]))) == [0, 4]
    assert places(HighestScores(LowestCount(9)).choose(candidates([3, 1, NAN]))) == [0, 1]


def test_a_random_subset_ignores_scores() -> None:
    one, other = (RandomSubset(LowestCount(9)).choose(candidates(random_scores(30, s), 2, 5)).kept for s in (1, 2))
    assert torch.equal(one, other)
    assert int(RandomSubset(LowestCount(3)).choose(candidates([NAN, 1, 2, 3])).kept.sum()) == 3


@pytest.mark.parametrize(
    "control", [RandomSubset(LowestCount(10)), ClassMatched(LowestCount(10), "kind"), LengthMatched(LowestCount(10), 2)]
)
def test_what_is_drawn_depends_on_seed_and_epoch(control: Rule) -> None:
    kinds: list[str | None] = ["a", "b", "c", "a"] * 10
    drawn = {
        (seed, epoch): tuple(places(control.choose(candidates(random_scores(40), epoch, seed, kind=kinds))))
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
    }
    assert len(set(drawn.values())) == 9
    for (seed, epoch), found in drawn.items():
        assert tuple(places(control.choose(candidates(random_scores(40), epoch, seed, kind=kinds)))) == found


def test_no_two_draws_of_any_control_seed_or_epoch_are_the_same() -> None:
    """Nor one another's mirror: what a control draws must not follow from what another one drew."""
    controls = [RandomSubset(LowestCount(20)), LengthMatched(LowestCount(20), 1), ClassMatched(LowestCount(20), "kind"),
                ClassMatched(LowestCount(20), "other")]  # fmt: skip
    classes: dict[str, list[str | None]] = {"kind": [None] * 40, "other": [None] * 40}
    drawn = [
        tuple(places(control.choose(candidates(torch.arange(40.0), epoch, seed, **classes))))
        for control in controls
        for seed in (0, 1, 2**33, -1)
        for epoch in range(5)
    ]
    assert len(set(drawn)) == len(drawn) == 80


def test_every_pair_is_drawn_about_equally_often() -> None:
    counts: Counter[int] = Counter()
    for epoch in range(400):
        counts.update(places(RandomSubset(LowestCount(5)).choose(candidates(torch.arange(20.0), epoch))))
    assert len(counts) == 20
    assert all(60 <= n <= 140 for n in counts.values()), "100 expected, standard deviation 8.7"


def test_a_draw_is_of_rows_and_not_of_places() -> None:
    """Whoever stands beside a row, and wherever it stands, its turn among others is the same."""
    given = candidates(random_scores(60))
    whole = {int(row) for row in given.rows[RandomSubset(LowestCount(20)).choose(given).kept]}
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    turned = given.among(order)
    assert {int(row) for row in turned.rows[RandomSubset(LowestCount(20)).choose(turned).kept]} == whole
    some = given.among(torch.tensor([i for i in range(60) if int(given.rows[i]) in whole or i % 3 == 0]))
    assert {int(row) for row in some.rows[RandomSubset(LowestCount(20)).choose(some).kept]} == whole


def test_a_control_within_classes_draws_other_places_of_each() -> None:
    kinds: list[str | None] = [kind for kind in "abcd" for _ in range(40)]
    choice = Stratified(RandomSubset(LowestFraction(0.25)), "kind").choose(candidates(random_scores(160), kind=kinds))
    drawn = [tuple(choice.kept[start : start + 40].nonzero().flatten().tolist()) for start in range(0, 160, 40)]
    assert [len(places) for places in drawn] == [10] * 4
    assert len(set(drawn)) == 4
    shared = [len(set(a) & set(b)) for i, a in enumerate(drawn) for b in drawn[:i]]
    assert sum(shared) / len(shared) < 5, "2.5 expected where draws have nothing to do with each other"


def test_neighbouring_rows_epochs_and_seeds_have_nothing_to_do_with_each_other() -> None:
    """Shares of pairs of draws are those of chance: a quarter of a quarter, and one of two neighbours."""
    n, epochs = 400, 60
    drawn = torch.stack([
        RandomSubset(LowestFraction(0.25)).choose(candidates(torch.zeros(n), epoch, seed)).kept
        for seed in (0, 1) for epoch in range(epochs)
    ]).double()  # fmt: skip
    for one, other in ((drawn[:-1], drawn[1:]), (drawn[:epochs], drawn[epochs:]), (drawn[:, :-1], drawn[:, 1:])):
        assert float((one * other).mean()) == pytest.approx(1 / 16, abs=0.005)
    assert drawn.mean(0).std() == pytest.approx((0.1875 / len(drawn)) ** 0.5, rel=0.2)


def test_a_hundred_thousand_pairs_are_drawn_in_no_time() -> None:
    given = candidates(random_scores(100_000))
    start = time.perf_counter()
    assert int(RandomSubset(LowestCount(1000)).choose(given).kept.sum()) == 1000
    assert time.perf_counter() - start < 2, "hundredths of a second, on an idle machine"


def test_the_overlap_of_a_control_is_the_share_that_its_rule_keeps_too() -> None:
    given = candidates(random_scores(200), kind=["a", "b", "b", None] * 50)
    rule = LowestFraction(0.3)
    wanted = rule.choose(given).kept
    for control in (RandomSubset(rule), ClassMatched(rule, "kind"), LengthMatched(rule), HighestScores(rule),
                    HighestScores(LowestFraction(0.8))):  # fmt: skip
        choice = control.choose(given)
        wanted = control.rule.choose(given).kept
        assert choice.overlap == pytest.approx(int((choice.kept & wanted).sum()) / int(wanted.sum()))
    assert HighestScores(rule).choose(given).overlap == 0
    assert HighestScores(LowestFraction(0.8)).choose(given).overlap == pytest.approx(0.75)
    assert RandomSubset(LowestFraction(1.0)).choose(given).overlap == 1
    assert rule.choose(given).overlap is None
    assert RandomSubset(AtMost(-1e9)).choose(given).overlap is None, "of nothing there is no share"


def test_the_overlap_within_classes_counts_pairs() -> None:
    given = candidates(random_scores(90), kind=[*["a"] * 60, *["b"] * 20, *["c"] * 10])
    control, rule = Stratified(RandomSubset(LowestFraction(0.4)), "kind"), Stratified(LowestFraction(0.4), "kind")
    choice, wanted = control.choose(given), rule.choose(given)
    assert choice.overlap == pytest.approx(int((choice.kept & wanted.kept).sum()) / int(choice.kept.sum()))
    assert wanted.overlap is None


def test_class_matched_keeps_as_many_of_each_class_and_others_of_them() -> None:
    kinds: list[str | None] = ["a"] * 12 + ["b"] * 12 + [None] * 12
    given = candidates(torch.cat([torch.zeros(12), torch.arange(24.0)]), kind=kinds)
    rule = LowestCount(15)
    wanted, found = rule.choose(given).kept, ClassMatched(rule, "kind").choose(given).kept

    def counts(kept: torch.Tensor) -> Counter[str | None]:
        return Counter(kind for kind, keep in zip(kinds, kept.tolist(), strict=True) if keep)

    assert counts(found) == counts(wanted) == Counter({"a": 12, "b": 3})
    assert not torch.equal(found, wanted)


@pytest.mark.parametrize("bins", [1, 2, 3, 4])
def test_length_matched_keeps_as_many_of_each_cell_of_lengths(bins: int) -> None:
    """Cells are made a second time, by sorting: quantile range of chosen lengths by that of rejected ones."""
    generator = torch.Generator().manual_seed(3)
    chosen, rejected = (torch.randint(1, 40, (120,), generator=generator) for _ in range(2))
    given = candidates(random_scores(120))._replace(chosen_lengths=chosen, rejected_lengths=rejected)
    rule = LowestFraction(0.4)
    wanted, found = rule.choose(given).kept, LengthMatched(rule, bins).choose(given).kept

    def cell(values: torch.Tensor, i: int) -> int:
        ranked = sorted(values.tolist())
        edges = []
        for k in range(1, bins):
            at = k / bins * (len(ranked) - 1)
            low = int(at)
            edges.append(ranked[low] + (at - low) * (ranked[min(low + 1, len(ranked) - 1)] - ranked[low]))
        return sum(float(values[i]) >= edge for edge in edges)

    def counts(kept: torch.Tensor) -> Counter[tuple[int, int]]:
        return Counter((cell(chosen, i), cell(rejected, i)) for i in kept.nonzero().flatten().tolist())

    assert counts(found) == counts(wanted)
    assert len(counts(wanted)) == bins**2
    assert not torch.equal(found, wanted)


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LowestFraction(0.0), "fraction is 0.0, but must be above 0 and at most 1"),
        (lambda: LowestFraction(1.5), "fraction is 1.5"),
        (lambda: LowestFraction(NAN), "fraction is nan"),
        (lambda: LowestCount(0), "count is 0, but must be at least 1"),
        (lambda: QuantileWindow(1.1), "quantile is 1.1, but must lie between 0 and 1"),
        (lambda: QuantileWindow(0.5, 0), "count is 0"),
        (lambda: AtMost(NAN), "threshold is nan"),
        (lambda: FractionSchedule([]), "fractions is an empty list"),
        (lambda: FractionSchedule([0.5, 2]), "fractions is 2"),
        (lambda: LengthMatched(LowestCount(1), 0), "bins is 0"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("rule", [Stratified(LowestCount(1), "kind"), ClassMatched(LowestCount(1), "kind")])
def test_an_unknown_label_is_answered_with_the_fix(rule: Rule) -> None:
    with pytest.raises(ConfigError) as caught:
        rule.choose(candidates([1, 2], other=["a", "b"]))
    assert "'kind'" in str(caught.value)
    assert "they have: other" in str(caught.value)
    assert "--data.columns.labels='[kind]'" in str(caught.value)


def test_a_rule_without_choose_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Rule must define choose"):
        Rule().choose(candidates([1]))


# --- labels from the data -----------------------------------------------------------------------------------------


def data(path: Path, tokenizer: Any, labels: tuple[str, ...], tmp_path: Path, **more: Any) -> PreferenceData:
    module = PreferenceData(
        str(path), val_size=0, columns=Columns(labels=labels), cache_dir=str(tmp_path / "cache"), **more
    )
    module._tokenizer = tokenizer
    return module


def lines(tmp_path: Path, **columns: list[Any]) -> Path:
    path = tmp_path / "labelled.jsonl"
    count = len(next(iter(columns.values())))
    rows = [
        {"prompt": f"p{i}", "chosen": "a" * (i + 1), "rejected": "b"} | {k: v[i] for k, v in columns.items()}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_labels_reach_the_candidates(tmp_path: Path, tokenizer: Any) -> None:
    path = lines(tmp_path, kind=["x", 3, True, None, 2.5], topic=["t"] * 5, unused=[0] * 5)
    module = data(path, tokenizer, ("kind", "topic"), tmp_path)
    for _ in range(2):  # tokenised, then read from the cache
        module.setup("predict")
        found = module.candidates([0, 1, 2, 3, 4], torch.arange(5.0), 7)
        assert found.labels == {"kind": ["x", "3", "True", None, "2.5"], "topic": ["t"] * 5}
        assert found.rows.tolist() == [0, 1, 2, 3, 4]
        assert found.epoch == 7
        assert found.scores.dtype == torch.float64
    some = module.candidates([3, 1], torch.tensor([0.5, 1.5]), 0)
    assert some.labels["kind"] == [None, "3"]
    assert some.rows.tolist() == [3, 1]


def test_lengths_of_candidates_are_those_of_the_responses(tmp_path: Path, tokenizer: Any) -> None:
    module = data(lines(tmp_path, kind=["x"] * 6), tokenizer, (), tmp_path)
    module.setup("predict")
    assert module.train is not None
    found = module.candidates([5, 0, 2], torch.zeros(3), 0)
    pairs = [module.train[i] for i in (5, 0, 2)]
    assert found.chosen_lengths.tolist() == [len(pair.chosen) for pair in pairs]
    assert found.rejected_lengths.tolist() == [len(pair.rejected) for pair in pairs]
    assert found.labels == {}


def test_a_column_of_labels_that_is_not_there_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    module = data(lines(tmp_path, kind=["x", "y"]), tokenizer, ("knid",), tmp_path)
    with pytest.raises(DataError, match=r"no column \"knid\".*kind(.|\n)*correct data.columns.labels"):
        module.setup("predict")


@pytest.mark.parametrize("value", [["a"], {"a": 1}])
def test_a_label_that_is_no_value_is_refused(value: Any, tmp_path: Path, tokenizer: Any) -> None:
    module = data(lines(tmp_path, kind=["x", value]), tokenizer, ("kind",), tmp_path)
    with pytest.raises(DataError, match="a label is text, a number or a truth value"):
        module.setup("predict")


def test_rows_that_are_dropped_take_their_labels_with_them(tmp_path: Path, tokenizer: Any) -> None:
    path = lines(tmp_path, kind=["x", ["bad"], "z"])
    module = data(path, tokenizer, ("kind",), tmp_path, on_bad_row="drop")
    module.setup("predict")
    found = module.candidates([0, 1], torch.zeros(2), 0)
    assert found.rows.tolist() == [0, 2]
    assert found.labels["kind"] == ["x", "z"]
