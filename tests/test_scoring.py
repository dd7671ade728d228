"""Scores against a naive reference: one sequence at a time, all logits, no padding."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lit_pref import scoring
from lit_pref.batch import Pair, collate
from lit_pref.fast_path import fast_path, pad_always
from lit_pref.scoring import chosen_predictions, score


def naive(model: Any, prompt: list[int], response: list[int]) -> tuple[Tensor, Tensor]:
    """Sum of log-probabilities, and of hidden states from the last prompt to the second-to-last response token."""
    output = model(torch.tensor([[*prompt, *response]]), output_hidden_states=True)
    logps = output.logits[0].float().log_softmax(-1)
    positions = range(len(prompt) - 1, len(prompt) + len(response) - 1)
    total = torch.stack([logps[p, t] for p, t in zip(positions, response, strict=True)]).sum()
    return total, output.hidden_states[-1][0, list(positions)].sum(0)


@pytest.mark.parametrize("side", ["left", "right", "packed"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma2", "olmo", "gpt_neox", "gpt2", "cohere"])
@torch.no_grad()
def test_scores_equal_the_naive_ones(name: str, side: Any, small_model: Any, random_pairs: Any) -> None:
    model, pairs = small_model(name), random_pairs()
    if side != "packed":
        pad_always(model)
    scores = score(model, collate(pairs, padding_side="right" if side == "packed" else side))
    assert fast_path(model, torch.device("cpu")).packs == (side == "packed")
    for i, pair in enumerate(pairs):
        for response, got in ((pair.chosen, scores.chosen), (pair.rejected, scores.rejected)):
            logps, hidden = naive(model, list(pair.prompt), list(response))
            torch.testing.assert_close(got.logps[i], logps, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(got.hidden_sums[i], hidden, atol=1e-4, rtol=1e-5)
            assert got.lengths[i] == len(response)


@torch.no_grad()
def test_batch_size_and_order_do_not_matter(small_model: Any, random_pairs: Any) -> None:
    model, pairs = small_model("llama"), random_pairs(8)
    together = score(model, collate(pairs)).chosen.logps
    alone = torch.cat([score(model, collate([pair])).chosen.logps for pair in pairs])
    reversed_ = score(model, collate(pairs[::-1])).chosen.logps.flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, reversed_, atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_token_responses_sum_to_probability_one(small_model: Any) -> None:
    vocabulary = small_model("llama").config.vocab_size
    pairs = [Pair(i, [5, 6, 7], [i], [i]) for i in range(vocabulary)]
    assert score(small_model("llama"), collate(pairs)).chosen.logps.exp().sum() == pytest.approx(1.0, abs=1e-5)


@torch.no_grad()
def test_log_probabilities_are_float32_whatever_the_model_is(small_model: Any, random_pairs: Any) -> None:
    batch = collate(random_pairs())
    exact = score(small_model("llama"), batch)
    rounded = score(small_model("llama").to(torch.bfloat16), batch)
    assert rounded.chosen.logps.dtype == rounded.chosen.hidden_sums.dtype == torch.float32
    torch.testing.assert_close(rounded.chosen.logps, exact.chosen.logps, atol=0.5, rtol=0.05)


def test_padding_stands_on_the_side_that_is_asked_for(random_pairs: Any) -> None:
    left, right = (collate(random_pairs(), padding_side=side).attention_mask for side in ("left", "right"))  # type: ignore[arg-type]
    assert left[:, -1].all()
    assert not left[:, 0].all()
    assert torch.equal(left.flip(1), right)


def test_chunks_give_the_same_scores_and_gradients(
    small_model: Any, random_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, results = collate(random_pairs()), []
    for tokens in (10_000, 5):
        monkeypatch.setattr(scoring, "TOKENS_PER_CHUNK", tokens)
        model = small_model("llama")
        scores = score(model, batch)
        (scores.chosen.logps.sum() - 0.5 * scores.rejected.logps.sum()).backward()
        results.append([scores.chosen.logps.detach(), *(p.grad for p in model.parameters())])
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(whole, chunked, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_first_token_probabilities(small_model: Any, random_pairs: Any) -> None:
    model, pairs = small_model("gemma2"), random_pairs(4)
    probs = chosen_predictions(model, collate(pairs)).first.exp()
    for row, pair in zip(probs, pairs, strict=True):
        expected = model(torch.tensor([list(pair.prompt)])).logits[0, -1].softmax(-1)
        torch.testing.assert_close(row, expected, atol=1e-6, rtol=1e-5)


def test_a_model_that_hides_its_head_is_refused(small_model: Any, random_pairs: Any) -> None:
    model = small_model("llama")
    original = model.forward
    model.forward = lambda **kw: type("Out", (), {"logits": original(**kw).logits[:, :1]})()
    with pytest.raises(ValueError, match="does not call its output embedding once"):
        score(model, collate(random_pairs()))


def test_hooks_are_taken_off_again(small_model: Any, random_pairs: Any) -> None:
    model: Any = small_model("llama")
    score(model, collate(random_pairs()))
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_an_annotated_reward_reaches_its_side() -> None:
    pairs = [Pair(0, [5], [6], [7], 1.5, -0.5), Pair(1, [5], [6], [7], 2.5, 0.5)]
    batch = collate(pairs)
    assert batch.rewards is not None
    assert batch.rewards.tolist() == [[1.5, 2.5], [-0.5, 0.5]]
    assert collate([pairs[0], Pair(1, [5], [6], [7])]).rewards is None


@torch.no_grad()
def test_pairs_that_only_fill_up_are_scored_and_forgotten(small_model: Any, random_pairs: Any) -> None:
    model, pairs = small_model("llama"), random_pairs(4)
    counted, alone = score(model, collate(pairs, 3)), score(model, collate(pairs[:3]))
    for side, expected in ((counted.chosen, alone.chosen), (counted.rejected, alone.rejected)):
        torch.testing.assert_close(side.logps, expected.logps, atol=1e-5, rtol=0)
        assert side.lengths.tolist() == expected.lengths.tolist()
    assert chosen_predictions(model, collate(pairs, 3)).first.shape[0] == 3
    assert len(score(model, collate(pairs, 0)).chosen.logps) == 0
