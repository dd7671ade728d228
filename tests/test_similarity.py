"""Measures of similarity: identities, hand numbers, autograd, and a second implementation of all of them."""

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_pref.batch import Pair, lay_out
from lit_pref.errors import ConfigError
from lit_pref.forward import predictions
from lit_pref.processes import ALONE, Processes
from lit_pref.similarity import MEASURES, USUAL, Measuring, alphas, ches, edit_similarity, last_hidden, ln_ches
from lit_pref.similarity import response_cosine as cosine
from lit_pref.similarity.alphas import Predictions, alpha_ches, residual_products
from lit_pref.similarity.states import calls
from lit_pref.similarity.summary import quantile_line, quantiles, spearman
from lit_pref.similarity.windows import WINDOW, measure_all, windows

EOS = 2
ENDINGS = frozenset({EOS})
ARCHITECTURES = ["llama", "qwen2", "qwen3", "gemma2", "olmo", "gpt_neox", "gpt2", "cohere"]
BY_PAIR = [name for name in MEASURES if MEASURES[name].reads in ("pair", "predictions")]


@pytest.fixture
def ended_pairs(random_pairs: Any) -> Callable[..., list[Pair]]:
    """Pairs of ragged lengths whose responses mostly end with end-of-sequence; some were cut and do not."""

    def make(count: int = 7, seed: int = 0, longest: int = 12) -> list[Pair]:
        def ended(pair: Pair) -> Pair:
            chosen, rejected = [*pair.chosen, EOS], [*pair.rejected, EOS]
            if pair.row % 4 == 1:
                chosen = chosen[:-1]
            if pair.row % 4 == 3:
                chosen, rejected = chosen[:-1], rejected[:-1]
            return pair._replace(chosen=chosen, rejected=rejected)

        return [ended(pair) for pair in random_pairs(count, seed, longest)]

    return make


def sums(n: int = 5, d: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    return first, second


# --- pure functions -----------------------------------------------------------------------------------------------


def test_ches_of_a_response_with_itself_is_zero() -> None:
    own, _ = sums()
    lengths = torch.tensor([1, 2, 3, 4, 5])
    assert ches(own, own).tolist() == [0.0] * 5
    assert ln_ches(own, own, lengths, lengths).tolist() == [0.0] * 5


def test_ches_in_both_directions_adds_up_to_a_distance() -> None:
    chosen, rejected = sums()
    distance = (chosen - rejected).square().sum(-1)
    torch.testing.assert_close(ches(chosen, rejected) + ches(rejected, chosen), -distance)
    assert (distance > 0).all()


def test_ches_is_at_most_a_quarter_of_the_rejected_norm() -> None:
    chosen, rejected = sums(200)
    bound = rejected.square().sum(-1) / 4
    assert (ches(chosen, rejected) <= bound + 1e-12).all()
    torch.testing.assert_close(ches(rejected / 2, rejected), bound)


@pytest.mark.parametrize("factor", [-1.0, 0.5, 3.0])
def test_states_that_are_scaled_scale_the_score_by_the_square(factor: float) -> None:
    chosen, rejected = sums()
    n, m = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([2, 2, 1, 7, 3])
    torch.testing.assert_close(ches(factor * chosen, factor * rejected), factor**2 * ches(chosen, rejected))
    torch.testing.assert_close(
        ln_ches(factor * chosen, factor * rejected, n, m), factor**2 * ln_ches(chosen, rejected, n, m)
    )


def test_orthogonal_maps_change_nothing() -> None:
    chosen, rejected = sums()
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    n, m = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([2, 2, 1, 7, 3])
    torch.testing.assert_close(ches(chosen @ turn, rejected @ turn), ches(chosen, rejected))
    torch.testing.assert_close(ln_ches(chosen @ turn, rejected @ turn, n, m), ln_ches(chosen, rejected, n, m))
    torch.testing.assert_close(last_hidden(chosen @ turn, rejected @ turn), last_hidden(chosen, rejected))
    torch.testing.assert_close(cosine(chosen @ turn, rejected @ turn), cosine(chosen, rejected))


@pytest.mark.parametrize("times", [2, 5])
def test_repeating_every_state_changes_only_what_is_not_normalised(times: int) -> None:
    chosen, rejected = sums()
    n, m = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([2, 2, 1, 7, 3])
    torch.testing.assert_close(ches(times * chosen, times * rejected), times**2 * ches(chosen, rejected))
    torch.testing.assert_close(
        ln_ches(times * chosen, times * rejected, times * n, times * m), ln_ches(chosen, rejected, n, m)
    )


def test_ln_ches_is_the_ches_of_means() -> None:
    chosen, rejected = sums()
    n, m = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([2, 2, 1, 7, 3])
    torch.testing.assert_close(ln_ches(chosen, rejected, n, m), ches(chosen / n[:, None], rejected / m[:, None]))


@pytest.mark.parametrize(
    ("chosen", "rejected", "n", "m", "score", "normalised"),
    [((1.0, 0.0), (2.0, 1.0), 1, 2, 1.0, 0.0), ((2.0, 0.0), (1.0, 1.0), 2, 1, -2.0, 0.0),
     ((3.0, 4.0), (4.0, 3.0), 5, 1, -1.0, 24 / 5 - 1)],
)  # fmt: skip
def test_numbers_worked_out_by_hand(
    chosen: Any, rejected: Any, n: int, m: int, score: float, normalised: float
) -> None:
    first, second = torch.tensor([chosen]), torch.tensor([rejected])
    assert ches(first, second).tolist() == [score]
    assert ln_ches(first, second, torch.tensor([n]), torch.tensor([m])).item() == pytest.approx(normalised)


def test_ches_keeps_the_digits_of_a_small_difference() -> None:
    """Float32 sums of long responses that share almost everything; the truth is float64 on the same numbers."""
    generator = torch.Generator().manual_seed(0)
    chosen = 500 * torch.randn(8, 2048, generator=generator)
    rejected = chosen + 0.01 * torch.randn(8, 2048, generator=generator)
    truth = ches(chosen.double(), rejected.double())
    torch.testing.assert_close(ches(chosen, rejected).double(), truth, rtol=1e-5, atol=0)
    lost = ((chosen * rejected).sum(-1) - (chosen * chosen).sum(-1)).double()
    assert ((lost - truth).abs() / truth.abs()).median() > 0.01, "the two products of the definition lose them"


def test_the_inner_product_of_last_states_and_the_cosine_are_symmetric() -> None:
    chosen, rejected = sums()
    assert torch.equal(last_hidden(chosen, rejected), last_hidden(rejected, chosen))
    torch.testing.assert_close(cosine(chosen, rejected), cosine(rejected, chosen))
    torch.testing.assert_close(cosine(chosen, 3 * chosen), torch.ones(5, dtype=torch.float64))


def levenshtein(a: list[int], b: list[int]) -> int:
    """The table of the textbook, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def test_edit_similarity_equals_the_textbook() -> None:
    draw = random.Random(0)
    for _ in range(200):
        a, b = ([draw.choice([5, 6, 70_000]) for _ in range(draw.randint(0, 9))] for _ in range(2))
        expected = -levenshtein(a, b) / max(len(a), len(b)) if a or b else 0.0
        assert edit_similarity(a, b) == edit_similarity(b, a) == expected
        assert -1 <= expected <= 0
    assert edit_similarity([1, 2, 3], [1, 2, 3]) == 0
    assert edit_similarity([1, 2, 3], [4, 5, 6]) == -1
    assert edit_similarity([], [4]) == -1
    assert edit_similarity([300], [44]) == -1, "ids beyond a byte are not folded"


# --- alphas -------------------------------------------------------------------------------------------------------


def side(model: Any, prompt: list[int], response: list[int]) -> Predictions:
    layout = lay_out([(prompt, response)])
    return Predictions(*predictions(model, layout, layout.state_index), layout.target)


@pytest.mark.parametrize("tile", [2**25, 40, 1])
def test_alpha_ches_is_the_entanglement_of_the_output_embedding(
    tile: int, small_model: Any, ended_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """<g+, g-> - ||g+||², with g from autograd, float64; the tile only bounds memory."""
    monkeypatch.setattr(alphas, "ENTRIES_PER_TILE", tile)
    model = small_model("llama").double()
    head = model.get_output_embeddings().weight
    for pair in ended_pairs(4):
        sides, gradients = [], []
        for response in (pair.chosen, pair.rejected):
            found = side(model, list(pair.prompt), list(response))
            logps = found.logits.log_softmax(-1).gather(-1, found.target[:, None]).sum()
            gradients.append(torch.autograd.grad(logps, head)[0].flatten())
            sides.append(Predictions(*(t.detach() for t in found)))
        expected = gradients[0] @ gradients[1] - gradients[0] @ gradients[0]
        torch.testing.assert_close(alpha_ches(*sides).score, expected, rtol=1e-10, atol=1e-10)


def test_alphas_are_products_of_residuals(small_model: Any, ended_pairs: Any) -> None:
    """From -2 to 2; alpha+ of a token with itself is ||e - p||²; the share counts both matrices."""
    model = small_model("llama").double()
    for pair in ended_pairs(4):
        sides = [side(model, list(pair.prompt), list(r)) for r in (pair.chosen, pair.rejected)]
        residuals = [torch.eye(300, dtype=torch.float64)[s.target] - s.logits.softmax(-1) for s in sides]
        across, within = residual_products(*sides)
        torch.testing.assert_close(across, residuals[0] @ residuals[1].T)
        torch.testing.assert_close(within, residuals[0] @ residuals[0].T)
        assert across.abs().max() <= 2
        assert within.abs().max() <= 2
        torch.testing.assert_close(within.diagonal(), residuals[0].square().sum(-1))
        positive = [*(across > 0).flatten().tolist(), *(within > 0).flatten().tolist()]
        assert alpha_ches(*sides).positive.item() == pytest.approx(sum(positive) / len(positive))


def test_opposite_certainties_reach_the_ends_of_the_range() -> None:
    """Chosen wants token 0 and 1 is predicted; rejected wants 1 and 0 is predicted: the products are -2 and 2."""
    logits = torch.tensor([[-1e3, 0.0, -1e3]], dtype=torch.float64)
    states = torch.ones(1, 2, dtype=torch.float64)
    chosen = Predictions(states, logits, torch.tensor([0]))
    rejected = Predictions(states, logits.roll(-1, 1), torch.tensor([1]))
    across, within = residual_products(chosen, rejected)
    assert across.item() == pytest.approx(-2)
    assert within.item() == pytest.approx(2)


def test_a_token_that_was_certain_has_no_coefficients() -> None:
    logits = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits[1] = torch.tensor([0.0, 0, 0, 0, 800.0, 0, 0])
    chosen = Predictions(torch.randn(3, 4, dtype=torch.float64), logits, torch.tensor([1, 4, 2]))
    rejected = Predictions(torch.randn(2, 4, dtype=torch.float64), logits[[0, 2]], torch.tensor([3, 3]))
    across, within = residual_products(chosen, rejected)
    assert across[1].abs().max() == 0
    assert within[1].abs().max() == within[:, 1].abs().max() == 0
    assert (across[[0, 2]] != 0).all()


# --- under a model: a second implementation -----------------------------------------------------------------------


def plain(model: Any, pair: Pair) -> dict[str, float]:
    """All measures of a pair in plain lines: batch size 1, no padding, float64, every logit."""
    model = model.double()

    def read(ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            output = model(torch.tensor([ids]), output_hidden_states=True)
        return output.hidden_states[-1][0].double().numpy(), output.logits[0].double().numpy()

    found: dict[str, Any] = {}
    for name, response in (("+", list(pair.chosen)), ("-", list(pair.rejected))):
        body = response[:-1] if response[-1] == EOS else response
        states, logits = read([*pair.prompt, *response])
        first = len(pair.prompt) - 1
        h = states[first : first + len(response)]
        z = logits[first : first + len(response)]
        p = np.exp(z - np.logaddexp.reduce(z, 1, keepdims=True))
        found["h" + name], found["r" + name] = h, np.eye(z.shape[1])[response] - p
        found["logp" + name] = float(np.log(p[range(len(response)), response]).sum())
        found["last" + name] = states[first + len(body)]
        found["mean" + name] = read(body)[0].mean(0) if body else np.full(h.shape[1], np.nan)
        found["body" + name] = body
    a, b = found["h+"], found["h-"]
    within, across = found["r+"] @ found["r+"].T, found["r+"] @ found["r-"].T
    bodies = found["body+"], found["body-"]
    longest = max(map(len, bodies))
    u, v = found["mean+"], found["mean-"]
    return {
        "ches": a.sum(0) @ b.sum(0) - a.sum(0) @ a.sum(0),
        "ln_ches": a.mean(0) @ b.mean(0) - a.mean(0) @ a.mean(0),
        "last_hidden": found["last+"] @ found["last-"],
        "edit_similarity": -levenshtein(*bodies) / longest if longest else 0.0,
        "response_cosine": float(u @ v / np.sqrt(u @ u) / np.sqrt(v @ v)),
        "alpha_ches": float((across * (a @ b.T)).sum() - (within * (a @ a.T)).sum()),
        "positive_alphas": np.concatenate([across.ravel(), within.ravel()]).__gt__(0).mean(),
        "chosen_logps": found["logp+"],
        "rejected_logps": found["logp-"],
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_measure_equals_a_second_implementation(name: str, small_model: Any, ended_pairs: Any) -> None:
    """Batches of ragged lengths in float64 against single sequences in float64, to 1e-5 of each score."""
    pairs = [*ended_pairs(), Pair(7, [9, 8], [EOS], [11, 12, EOS]), Pair(8, [9], [EOS], [EOS])]
    pairs.append(Pair(9, [9, 8], [7, EOS], [7, EOS]))
    # Gemma 2 turns float64 masks into float32 minus infinity, so padding beyond a whole window would become NaN.
    changes = {"sliding_window": 64} if name == "gemma2" else {}
    found = Measuring(list(MEASURES), ENDINGS, 200, logps=True)(small_model(name, **changes).double(), pairs)
    expected = [plain(small_model(name, **changes), pair) for pair in pairs]
    assert set(found) == set(expected[0])
    for measure, values in found.items():
        assert values.dtype == torch.float64
        wanted = torch.tensor([row[measure] for row in expected], dtype=torch.float64)
        torch.testing.assert_close(values, wanted, rtol=1e-5, atol=1e-9, equal_nan=True, msg=lambda m, n=measure: n + m)
    assert found["response_cosine"].isnan().tolist() == [False] * 7 + [True, True, False]
    assert found["edit_similarity"][7:].tolist() == [-1.0, 0.0, 0.0]
    assert found["ches"][[8, 9]].tolist() == pytest.approx([0, 0], abs=1e-9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_float32_scores_are_those_of_float64(name: str, small_model: Any, ended_pairs: Any) -> None:
    """Relative to each score: even where CHES is a small difference of large products."""
    pairs = ended_pairs(12, longest=20)
    found = Measuring(list(USUAL), ENDINGS, 200)(small_model(name), pairs)
    expected = [plain(small_model(name), pair) for pair in pairs]
    for measure, values in found.items():
        wanted = torch.tensor([row[measure] for row in expected], dtype=torch.float64)
        torch.testing.assert_close(values, wanted, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_definition_two_equals_the_form_without_an_ending_over_all_positions(
    name: str, small_model: Any, random_pairs: Any
) -> None:
    """[prompt + response + end] up to the second-to-last token, and [prompt + response] to its very last."""
    model = small_model(name).double()
    pairs = random_pairs(6)
    ended = [p._replace(chosen=[*p.chosen, EOS], rejected=[*p.rejected, EOS]) for p in pairs]
    found = Measuring(["ches", "ln_ches"], ENDINGS)(model, ended)
    for i, pair in enumerate(pairs):
        states = []
        for response in (pair.chosen, pair.rejected):
            ids = torch.tensor([[*pair.prompt, *response]])
            with torch.no_grad():
                hidden = model(ids, output_hidden_states=True).hidden_states[-1][0]
            states.append(hidden[len(pair.prompt) - 1 :])
        a, b = states
        assert found["ches"][i].item() == pytest.approx((a.sum(0) @ b.sum(0) - a.sum(0) @ a.sum(0)).item(), rel=1e-8)
        assert found["ln_ches"][i].item() == pytest.approx((a.mean(0) @ (b.mean(0) - a.mean(0))).item(), rel=1e-8)


def test_single_tokens_are_alike_unless_their_ending_counts(small_model: Any) -> None:
    pairs = [Pair(i, [5, 6, 7 + i], [20 + i], [40 + i]) for i in range(6)]
    ended = [p._replace(chosen=[*p.chosen, EOS], rejected=[*p.rejected, EOS]) for p in pairs]
    without = Measuring(["ches", "ln_ches"], ENDINGS)(small_model("llama").double(), pairs)
    assert without["ches"].abs().max() < 1e-10
    assert without["ln_ches"].abs().max() < 1e-10
    counted = Measuring(["ches", "ln_ches"], ENDINGS)(small_model("llama").double(), ended)
    assert counted["ches"].abs().min() > 1e-3
    torch.testing.assert_close(counted["ches"], 4 * counted["ln_ches"])


def test_the_output_embedding_has_no_say(small_model: Any, ended_pairs: Any) -> None:
    """Other weights there change the exact score, and none of the usual ones."""
    model = small_model("llama")
    before = Measuring([*USUAL, "response_cosine", "alpha_ches"], ENDINGS)(model, ended_pairs())
    with torch.no_grad():
        model.get_output_embeddings().weight.normal_(generator=torch.Generator().manual_seed(1))
    after = Measuring([*USUAL, "response_cosine", "alpha_ches"], ENDINGS)(model, ended_pairs())
    for name in before:
        assert torch.equal(before[name], after[name]) == (name != "alpha_ches"), name


def test_the_state_at_the_last_token_is_one_beyond_those_of_a_cut_response(small_model: Any) -> None:
    model = small_model("llama").double()
    ended, cut = Pair(0, [5, 6], [10, 11, EOS], [12, EOS]), Pair(0, [5, 6], [10, 11], [12])
    found = Measuring(["last_hidden"], ENDINGS)(model, [ended, cut])["last_hidden"]
    assert found[0].item() == pytest.approx(found[1].item(), rel=1e-9)
    assert found[0].item() == pytest.approx(plain(model, cut)["last_hidden"], rel=1e-9)


def test_only_what_ends_a_response_is_left_out_of_its_body() -> None:
    measuring = Measuring(endings=frozenset({2, 6}))
    assert measuring.body([2, 5, 6, 2]) == [2, 5]
    assert measuring.body([5, 2, 7]) == [5, 2, 7]
    assert measuring.body([6, 2]) == []
    assert Measuring().body([5, 2]) == [5, 2]


# --- batches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_states_do_not_depend_on_padding_nor_on_what_stands_in_it(
    name: str, small_model: Any, ended_pairs: Any
) -> None:
    model = small_model(name)
    sequences = [(pair.prompt, pair.chosen) for pair in ended_pairs()]
    found = []
    for padding in ("right", "left"):
        layout = lay_out(sequences, padding)  # type: ignore[arg-type]
        rubbish = torch.where(layout.attention_mask == 0, 299, layout.input_ids)
        for ids in (layout.input_ids, rubbish):
            found.append(predictions(model, layout._replace(input_ids=ids), layout.state_index)[0])
        assert (rubbish != layout.input_ids).any()
    for states in found[1:]:
        torch.testing.assert_close(states, found[0], rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("budget", [1, 40, 100, 100_000])
def test_the_size_of_calls_changes_nothing(budget: int, small_model: Any, ended_pairs: Any) -> None:
    model, pairs = small_model("qwen2").double(), ended_pairs(9)
    one = Measuring(list(MEASURES), ENDINGS, 1, logps=True)(model, pairs)
    many = Measuring(list(MEASURES), ENDINGS, budget, logps=True)(model, pairs)
    for measure in one:
        torch.testing.assert_close(many[measure], one[measure], rtol=1e-9, atol=1e-10)


def test_scores_come_back_in_the_order_of_the_pairs(small_model: Any, ended_pairs: Any) -> None:
    model, pairs = small_model("llama").double(), ended_pairs(9)
    forwards = Measuring(list(MEASURES), ENDINGS, 60)(model, pairs)
    backwards = Measuring(list(MEASURES), ENDINGS, 60)(model, pairs[::-1])
    for measure in MEASURES:
        torch.testing.assert_close(backwards[measure].flip(0), forwards[measure], rtol=1e-9, atol=1e-10)


def test_calls_hold_every_item_once_and_no_more_than_the_budget() -> None:
    draw = random.Random(0)
    for rows in (1, 2):
        for _ in range(50):
            lengths = [draw.randint(1, 60) for _ in range(draw.randint(1, 40))]
            found = calls(lengths, 100, rows)
            assert sorted(i for call in found for i in call) == list(range(len(lengths)))
            for call in found:
                padded = rows * len(call) * max(lengths[i] for i in call)
                assert padded <= 100 or len(call) == 1
    assert calls([3, 9, 3, 9], 18) == [[1, 3], [0, 2]]


def test_windows_cover_the_data_once(small_model: Any, ended_pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, WINDOW, WINDOW + 1, 3 * WINDOW - 1):
        assert [i for window in windows(count) for i in window] == list(range(count))
        assert max(len(window) for window in windows(count)) <= WINDOW
    monkeypatch.setattr("lit_pref.similarity.windows.WINDOW", 4)
    model, pairs = small_model("llama"), ended_pairs(11)
    found = measure_all(model, pairs, [9, 2, 5, 0, 7, 10], Measuring(endings=ENDINGS))
    parts = [Measuring(endings=ENDINGS)(model, [pairs[i] for i in part]) for part in ([9, 2, 5, 0], [7, 10])]
    for measure in USUAL:
        assert torch.equal(found[measure], torch.cat([part[measure] for part in parts]))


# --- precision ----------------------------------------------------------------------------------------------------


def test_bfloat16_weights_do_not_lose_the_score(small_model: Any) -> None:
    """Of two near-equal sums of long responses, the definition evaluated in bfloat16 keeps nothing; ours keeps all.

    The truth is the float64 sum of the very states that the bfloat16 model gives.
    """
    generator = torch.Generator().manual_seed(0)
    model = small_model("llama").to(torch.bfloat16)
    with torch.no_grad():  # states that share a large part, as those of real models do
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.add_(4.0)
    pairs = []
    for row in range(6):
        prompt, common = torch.randint(7, 300, (2, 90), generator=generator).tolist()
        pairs.append(Pair(row, prompt, [*common, 10 + row, EOS], [*common, 20 + row, EOS]))
    found = Measuring(["ches"], ENDINGS, 1)(model, pairs)["ches"]
    assert found.dtype == torch.float64
    naive, exact = [], []
    for pair in pairs:
        states = []
        for response in (pair.chosen, pair.rejected):
            layout = lay_out([(pair.prompt, response)])
            with torch.no_grad():
                states.append(predictions(model, layout, layout.state_index)[0])
        a, b = (s.sum(0) for s in states)
        assert a.dtype == torch.bfloat16
        naive.append(float((a * b).sum() - (a * a).sum()))
        a, b = (s.double().sum(0) for s in states)
        exact.append(float((a * b).sum() - (a * a).sum()))
    truth = torch.tensor(exact, dtype=torch.float64)
    torch.testing.assert_close(found, truth, rtol=1e-6, atol=1e-6)
    lost = ((torch.tensor(naive, dtype=torch.float64) - truth) / truth).abs()
    assert (lost > 0.5).all(), lost


# --- what is paid for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "logps", "paid"),
    [(list(USUAL), False, False), (["response_cosine"], False, False), (["edit_similarity"], False, False),
     (list(USUAL), True, True), (["alpha_ches"], False, True), (["positive_alphas"], False, True)],
)  # fmt: skip
def test_the_output_embedding_is_skipped_unless_asked_for(
    names: list[str], logps: bool, paid: bool, small_model: Any, ended_pairs: Any
) -> None:
    model, pairs = small_model("llama"), ended_pairs()
    rows = []
    handle = model.get_output_embeddings().register_forward_hook(lambda m, i, output: rows.append(output[0].shape[0]))
    Measuring(names, ENDINGS, 100, logps)(model, pairs)
    handle.remove()
    tokens = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
    assert sum(rows) == (tokens if paid else 0)
    assert bool(rows) == (names != ["edit_similarity"]), "edit distance needs no model"


def test_flags_of_training_stay_as_they_were(small_model: Any, ended_pairs: Any) -> None:
    model = small_model("llama").train()
    model.model.layers[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    seen = []
    handle = model.register_forward_pre_hook(lambda m, inputs: seen.append(m.training))
    Measuring(list(MEASURES), ENDINGS)(model, ended_pairs())
    handle.remove()
    assert seen
    assert not any(seen), "measured in evaluation mode"
    assert {name: module.training for name, module in model.named_modules()} == before
    model.forward = lambda **kw: 1 / 0
    with pytest.raises(ZeroDivisionError):
        Measuring(["ches"], ENDINGS)(model, ended_pairs())
    assert {name: module.training for name, module in model.named_modules()} == before


def test_dropout_and_gradients_have_no_part(small_model: Any, ended_pairs: Any) -> None:
    model = small_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5).train()
    one, two = (Measuring(list(MEASURES), ENDINGS)(model, ended_pairs()) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(values.requires_grad for values in one.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [({"names": ["chess"]}, "no measure 'chess'.(.|\n)*Choices: ches, ln_ches"),
     ({"tokens_per_batch": 0}, "tokens_per_batch is 0, but must be at least 1")],
)  # fmt: skip
def test_what_is_no_measuring_is_refused(options: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Measuring(**options)


# --- processes ----------------------------------------------------------------------------------------------------


def on_threads(size: int, work: Callable[[Processes], Any]) -> list[Any]:
    """``work`` on ``size`` threads whose ``total`` really meets: each hands in its share and all get the sum."""
    barrier = threading.Barrier(size, timeout=60)
    slots: list[Any] = [None] * size
    results: list[Any] = [None] * size

    def member(rank: int) -> None:
        def total(values: Tensor) -> Tensor:
            slots[rank] = values
            barrier.wait()
            summed = torch.stack(slots).sum(0)
            barrier.wait()
            return summed

        results[rank] = work(Processes(rank, size, total=total))

    threads = [threading.Thread(target=member, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


@pytest.mark.parametrize("size", [2, 3, 50])
def test_several_processes_give_the_very_bits_of_one(size: int, small_model: Any, ended_pairs: Any) -> None:
    pairs = ended_pairs(9)
    alone = Measuring(list(MEASURES), ENDINGS, 60, logps=True)(small_model("llama"), pairs, ALONE)
    models = [small_model("llama") for _ in range(size)]  # hooks on one model would meet
    counts = [0] * size

    def work(processes: Processes) -> dict[str, Tensor]:
        def count(*_: Any) -> None:
            counts[processes.rank] += 1

        models[processes.rank].register_forward_pre_hook(count)
        return Measuring(list(MEASURES), ENDINGS, 60, logps=True)(models[processes.rank], pairs, processes)

    for found in on_threads(size, work):
        for name, values in alone.items():
            assert torch.equal(found[name].nan_to_num(9e9), values.nan_to_num(9e9)), name
    assert len(set(counts)) == 1, "every process makes the same number of model calls"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 5, 6])
def test_items_are_dealt_out_once_and_evenly(size: int, count: int) -> None:
    hands = [Processes(rank, size).deal(list(range(count))) for rank in range(size)]
    assert len({len(hand) for hand in hands}) == 1
    assert sorted(item for hand in hands for item, counts in hand if counts) == list(range(count))


# --- summaries ----------------------------------------------------------------------------------------------------


def test_quantiles_leave_out_what_is_no_number() -> None:
    found = quantiles([3.0, float("nan"), 1.0, 2.0])
    assert (found["0%"], found["50%"], found["100%"]) == (1.0, 2.0, 3.0)
    assert "50% 2" in quantile_line([3.0, 1.0, 2.0])
    assert all(np.isnan(value) for value in quantiles([float("nan")]).values())


def test_rank_correlation_ignores_any_rising_map() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert spearman(values, np.exp(values)) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)
    assert spearman([1, 1, 2, 3], [1, 1, 5, 9]) == pytest.approx(1)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
