"""Objectives around objectives, and what they read: tokens, gradient norms. Oracles: autograd and sums by hand."""

from typing import Any

import pytest
import torch

from lit_pref.batch import Pair, collate
from lit_pref.scoring import Wanted, score
from objectives import DPO, IPO, SFT, PairScores, SequenceScores, SimPO, TokenScores, WeightedSum
from objectives.balance import BalancedGradients, DisentanglementBand, pair_weights, scaled_gradient
from objectives.ld_dpo import LengthDesensitized
from objectives.token_mask import TokenMask
from objectives.wpo import WPO, on_policy_weight

ALL = Wanted(tokens=True, gradient_norms=True)


@pytest.fixture
def pairs(random_pairs: Any) -> list[Pair]:
    shared = [Pair(9, [5, 6], [11, 12, 13, 2], [11, 14, 13, 2]), Pair(10, [5], [20, 2], [20, 21, 2])]
    return random_pairs(4) + shared


@pytest.fixture
def scored(small_model: Any, pairs: list[Pair]) -> tuple[PairScores, PairScores]:
    batch = collate(pairs)
    with torch.no_grad():
        return score(small_model("llama"), batch, ALL), score(small_model("llama", seed=1), batch, ALL)


def detach_leaf(scores: PairScores) -> tuple[PairScores, torch.Tensor, torch.Tensor]:
    chosen, rejected = (side.logps.clone().requires_grad_() for side in (scores.chosen, scores.rejected))
    return (
        scores._replace(chosen=scores.chosen._replace(logps=chosen), rejected=scores.rejected._replace(logps=rejected)),
        chosen,
        rejected,
    )


# --- what scoring adds on demand ----------------------------------------------------------------------------------


def test_nothing_is_added_unasked(small_model: Any, pairs: list[Pair]) -> None:
    scores = score(small_model("llama"), collate(pairs))
    assert scores.chosen.tokens is None
    assert scores.rejected.gradient_norms is None


def test_tokens_add_up_to_the_sums(scored: Any, pairs: list[Pair]) -> None:
    for scores in scored:
        for side, ids in ((scores.chosen, [p.chosen for p in pairs]), (scores.rejected, [p.rejected for p in pairs])):
            sums = torch.zeros(len(pairs)).index_add(0, side.tokens.sequence, side.tokens.logps)
            torch.testing.assert_close(sums, side.logps)
            assert side.tokens.ids.tolist() == [token for response in ids for token in response]
            assert side.tokens.position.tolist() == [i for response in ids for i in range(len(response))]
            assert side.tokens.sequence.tolist() == [i for i, response in enumerate(ids) for _ in response]


def test_collisions_are_sums_of_squares(small_model: Any) -> None:
    pair = Pair(0, [5, 6, 7], [8], [9, 10])
    with torch.no_grad():
        scores = score(small_model("llama"), collate([pair]), ALL)
        probs = small_model("llama")(torch.tensor([[5, 6, 7, 9]])).logits[0].softmax(-1)
    expected = (probs[[2, 3]] ** 2).sum(-1).log()
    torch.testing.assert_close(scores.rejected.tokens.log_collisions, expected, atol=1e-5, rtol=1e-5)  # type: ignore[union-attr]


def test_gradient_norms_are_those_of_autograd(small_model: Any, pairs: list[Pair]) -> None:
    model: Any = small_model("llama")  # its output embedding is not tied to the input's
    scores = score(model, collate(pairs), ALL)
    for i in range(len(pairs)):
        for side in (scores.chosen, scores.rejected):
            (gradient,) = torch.autograd.grad(side.logps[i], model.lm_head.weight, retain_graph=True)
            assert side.gradient_norms is not None
            assert side.gradient_norms[i].item() == pytest.approx(gradient.norm().item(), rel=1e-4)


# --- WPO ----------------------------------------------------------------------------------------------------------


def test_wpo_weights_by_hand(scored: Any) -> None:
    side = scored[0].chosen
    tokens = side.tokens
    expected = torch.stack(
        [(tokens.logps - tokens.log_collisions)[tokens.sequence == i].mean().exp() for i in range(len(side.logps))]
    )
    torch.testing.assert_close(on_policy_weight(side), expected)


@pytest.mark.parametrize("clamp", [True, False])
def test_wpo_multiplies_losses(clamp: bool, scored: Any) -> None:
    policy, reference = scored
    weights = on_policy_weight(policy.chosen) * on_policy_weight(policy.rejected)
    weights = weights.clamp(max=1) if clamp else weights
    output = WPO(DPO(), clamp)(policy, reference)
    torch.testing.assert_close(output.losses, weights * DPO()(policy, reference).losses)
    assert torch.equal(output.chosen_rewards, DPO()(policy, reference).chosen_rewards)


# --- LD-DPO -------------------------------------------------------------------------------------------------------


def test_length_desensitising_by_hand(scored: Any, pairs: list[Pair]) -> None:
    policy, reference = scored
    alpha, expected = 0.3, []
    for i, pair in enumerate(pairs):
        shared, margin = min(len(pair.chosen), len(pair.rejected)), torch.zeros(())
        for scores, sign in ((policy, 1), (reference, -1)):
            for side, direction in ((scores.chosen, 1), (scores.rejected, -1)):
                logps = side.tokens.logps[side.tokens.sequence == i]
                margin = margin + sign * direction * (logps[:shared].sum() + alpha * logps[shared:].sum())
        expected.append(-torch.nn.functional.logsigmoid(0.1 * margin))
    torch.testing.assert_close(LengthDesensitized(DPO(), alpha)(policy, reference).losses, torch.stack(expected))


def test_length_desensitising_with_weight_one_changes_nothing(scored: Any) -> None:
    torch.testing.assert_close(LengthDesensitized(DPO(), 1.0)(*scored).losses, DPO()(*scored).losses)


def test_length_desensitising_of_the_policy_alone_is_another_loss(scored: Any) -> None:
    both, policy = (LengthDesensitized(DPO(), 0.3, sides)(*scored).losses for sides in ("both", "policy"))  # type: ignore[arg-type]
    assert not torch.allclose(both, policy)


# --- token masks --------------------------------------------------------------------------------------------------


def test_masks_leave_the_tokens_that_differ(scored: Any) -> None:
    policy, _ = scored
    seen: list[PairScores] = []

    class Look(SFT):
        def forward(self, policy: PairScores, reference: PairScores | None = None) -> Any:
            seen.append(policy)
            return super().forward(policy, reference)

    for drop in ("prefix", "prefix_and_suffix"):
        TokenMask(Look("sum"), drop)(policy, None)  # type: ignore[arg-type]
    prefix, both = seen
    # Pair 4: 11 [12] 13 2 against 11 [14] 13 2; pair 5: 20 [] 2 against 20 [21] 2.
    assert prefix.chosen.lengths[4:].tolist() == [3, 1]
    assert prefix.rejected.lengths[4:].tolist() == [3, 2]
    assert both.chosen.tokens.ids[both.chosen.tokens.sequence == 4].tolist() == [12]  # type: ignore[union-attr]
    assert both.rejected.tokens.ids[both.rejected.tokens.sequence == 5].tolist() == [21]  # type: ignore[union-attr]
    assert both.chosen.logps[5] == 0.0, "nothing of it differs"
    assert both.chosen.lengths[5] == 1, "and its mean is 0, not 0/0"


def test_a_shared_prefix_cancels_in_dpo_but_not_in_simpo(scored: Any) -> None:
    whole, masked = DPO()(*scored).losses, TokenMask(DPO())(*scored).losses
    torch.testing.assert_close(whole[4:], masked[4:], atol=1e-5, rtol=1e-5)
    policy = scored[0]
    assert not torch.allclose(SimPO()(policy).losses[4:], TokenMask(SimPO())(policy, None).losses[4:])


# --- the two weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [DPO(0.2), IPO(0.1), SimPO(), SFT(), WeightedSum([DPO(), SFT("sum")], [1, 0.5])])
def test_pair_weights_are_derivatives_of_the_losses(objective: Any, scored: Any) -> None:
    policy, chosen, rejected = detach_leaf(scored[0])
    losses = objective(policy, scored[1]).losses.sum()
    d_chosen, d_rejected = torch.autograd.grad(losses, [chosen, rejected], allow_unused=True)
    d_w, d_l = pair_weights(objective, *scored)
    torch.testing.assert_close(d_w, -d_chosen)
    torch.testing.assert_close(d_l, torch.zeros_like(d_l) if d_rejected is None else d_rejected)


def test_pair_weights_of_objectives_that_read_tokens(scored: Any) -> None:
    """With weight 1 on every token the derivative is that of the plain objective."""
    for plain, spread in zip(
        pair_weights(DPO(), *scored), pair_weights(LengthDesensitized(DPO(), 1.0), *scored), strict=True
    ):
        torch.testing.assert_close(plain, spread)


def test_scaled_gradient_keeps_values() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = scaled_gradient(x, torch.tensor([3.0, 0.5]))
    assert y.tolist() == [1.0, -2.0]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.tolist() == [3.0, 0.5]


@pytest.mark.parametrize("inner", [DPO(0.2), SimPO(), WeightedSum([DPO(), SFT("sum")], [1, 0.5])])
def test_balanced_gradients_set_the_ratio_and_keep_loss_and_product(inner: Any, scored: Any) -> None:
    policy, chosen, rejected = detach_leaf(scored[0])
    output = BalancedGradients(inner)(policy, scored[1])
    torch.testing.assert_close(output.losses, inner(*scored).losses)
    d_chosen, d_rejected = torch.autograd.grad(output.losses.sum(), [chosen, rejected])
    ratio = scored[0].rejected.gradient_norms / scored[0].chosen.gradient_norms
    torch.testing.assert_close(-d_chosen / d_rejected, ratio, rtol=1e-4, atol=0)
    d_w, d_l = pair_weights(inner, *scored)
    torch.testing.assert_close(-d_chosen * d_rejected, d_w * d_l, rtol=1e-4, atol=0)


def test_a_balanced_step_moves_each_side_the_right_way(small_model: Any) -> None:
    """The rejected gradient is much longer: plain DPO lowers the chosen response, the balanced step raises it."""
    pair = Pair(0, [5, 6, 7], [40, 41], [40, 41, 42, 43, 44, 45, 40, 41])
    changes = []
    for objective in (DPO(), BalancedGradients(DPO())):
        model: Any = small_model("llama")
        for name, weight in model.named_parameters():
            weight.requires_grad_(name == "lm_head.weight")
        before = score(model, collate([pair]), ALL)
        objective(before, PairScores(*(s._replace(logps=s.logps.detach()) for s in before[:2]))).losses.sum().backward()
        with torch.no_grad():
            model.lm_head.weight -= 1e-4 * model.lm_head.weight.grad
            after = score(model, collate([pair]))
        changes.append((after.chosen.logps - before.chosen.logps, after.rejected.logps - before.rejected.logps))
    (plain_chosen, _), (chosen, rejected) = changes
    assert plain_chosen.item() < 0
    assert chosen.item() > 0
    assert rejected.item() < 0


def test_the_band_follows_running_means(scored: Any) -> None:
    band = DisentanglementBand(DPO(0.2), decay=0.5)
    seen = [s.gradient_norms.mean().item() for s in scored[0][:2]]
    band(*scored)
    assert band.means[:2].tolist() == pytest.approx(seen), "the first batch fills the averages"
    halved = scored[0]._replace(chosen=scored[0].chosen._replace(gradient_norms=scored[0].chosen.gradient_norms * 0.5))
    band(halved, scored[1])
    assert band.means[0].item() == pytest.approx(0.75 * seen[0])
    kept = band.means.clone()
    band.eval()(*scored)
    assert torch.equal(band.means, kept), "measuring moves nothing"
    assert "means" in band.state_dict()


def test_the_band_sets_the_mean_ratio(scored: Any) -> None:
    policy, chosen, rejected = detach_leaf(scored[0])
    output = DisentanglementBand(DPO(0.2))(policy, scored[1])
    d_chosen, d_rejected = torch.autograd.grad(output.losses.sum(), [chosen, rejected])
    ratio = scored[0].rejected.gradient_norms.mean() / scored[0].chosen.gradient_norms.mean()
    assert (-d_chosen / d_rejected).tolist() == pytest.approx([ratio.item()] * len(d_chosen), rel=1e-4)


# --- composition --------------------------------------------------------------------------------------------------


def test_modifiers_compose_and_declare_what_they_need(scored: Any) -> None:
    nested = WPO(BalancedGradients(TokenMask(WeightedSum([DPO(), SFT()], [1.0, 0.1]))))
    assert nested.needs_tokens
    assert nested.needs_gradient_norms
    assert nested.needs_reference
    assert not WPO(SimPO()).needs_reference
    assert nested(*scored).losses.isfinite().all()
    nested.progress = 0.5
    nested(*scored)
    assert nested.objective.objective.objective.objectives[0].progress == 0.5  # type: ignore[union-attr, index]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LengthDesensitized(DPO(), 1.5), "alpha is 1.5, but must be from 0 to 1"),
        (lambda: LengthDesensitized(DPO(), sides="none"), "sides is 'none'"),  # type: ignore[arg-type]
        (lambda: TokenMask(DPO(), "all"), "drop is 'all'"),  # type: ignore[arg-type]
        (lambda: DisentanglementBand(DPO(), 1.0), "decay is 1.0"),
    ],
)
def test_bad_numbers_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("objective", [WPO(DPO()), TokenMask(DPO()), BalancedGradients(DPO())], ids=str)
def test_scores_without_what_is_read_are_refused_in_words(objective: Any, make_scores: Any) -> None:
    scores = make_scores([-1.0], [-2.0])
    with pytest.raises(ValueError, match="needs_"):
        objective(scores, scores)


@pytest.mark.parametrize(
    "make", [WPO, LengthDesensitized, TokenMask, BalancedGradients, DisentanglementBand], ids=lambda c: c.__name__
)
def test_a_process_without_pairs_learns_nothing(make: Any, small_model: Any, pairs: list[Pair]) -> None:
    """The last batch of an epoch may leave a process with pairs that only fill up."""
    model = small_model("llama")
    policy = score(model, collate(pairs, 0), ALL)
    losses = make(DPO())(policy, policy._replace(**{s: getattr(policy, s) for s in ("chosen", "rejected")})).losses
    assert losses.shape == (0,)
    losses.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


# --- what holds for every objective -------------------------------------------------------------------------------

MODIFIERS = [WPO, LengthDesensitized, TokenMask, BalancedGradients, DisentanglementBand]
by_name = pytest.mark.parametrize("make", MODIFIERS, ids=lambda c: c.__name__)


def side_of(logps: torch.Tensor, first_id: int) -> SequenceScores:
    """Responses of two tokens that share the log-probability of each sequence."""
    count = len(logps)
    sequence = torch.arange(count).repeat_interleave(2)
    tokens = TokenScores(
        (logps / 2)[sequence],
        torch.full((2 * count,), -1.0, dtype=logps.dtype),
        torch.arange(first_id, first_id + 2 * count),
        sequence,
        torch.tensor([0, 1]).repeat(count),
    )
    norms = torch.linspace(1, 2, count, dtype=logps.dtype)
    return SequenceScores(logps, torch.full((count,), 2), None, None, tokens, norms)


def scores_of(chosen: torch.Tensor, rejected: torch.Tensor) -> PairScores:
    return PairScores(side_of(chosen, 0), side_of(rejected, 1000))


@by_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_modifiers_are_finite_at_extreme_log_ratios(make: Any, scale: float, dtype: torch.dtype) -> None:
    chosen = torch.linspace(-scale, -1, 7).to(dtype).requires_grad_()
    rejected = torch.linspace(-1, -scale, 7).to(dtype).requires_grad_()
    output = make(DPO())(scores_of(chosen, rejected), scores_of(rejected.detach(), chosen.detach()))
    assert output.losses.shape == output.chosen_rewards.shape == (7,)
    gradients = torch.autograd.grad(output.losses.sum(), [chosen, rejected])
    assert all(values.isfinite().all() for values in (output.losses, *gradients))


@by_name
def test_the_order_of_pairs_does_not_matter_to_modifiers(make: Any) -> None:
    chosen, rejected = torch.tensor([-3.0, -7.0, -5.0]), torch.tensor([-4.0, -2.0, -9.0])
    order = [2, 0, 1]

    def losses(indices: list[int]) -> torch.Tensor:
        c, r = chosen[indices], rejected[indices]
        policy, reference = scores_of(c, r), scores_of(c * 0 - 5, r * 0 - 5)
        norms = torch.tensor([1.0, 2.0, 3.0])[indices]
        policy = policy._replace(chosen=policy.chosen._replace(gradient_norms=norms))
        return make(DPO())(policy, reference).losses

    torch.testing.assert_close(losses(order), losses([0, 1, 2])[order])


@pytest.mark.parametrize("make", [LengthDesensitized, TokenMask], ids=lambda c: c.__name__)
def test_gradients_of_modifiers_are_those_of_finite_differences(make: Any) -> None:
    """Not of WPO, whose weights are constants, nor of the two that rescale gradients on purpose."""
    reference = scores_of(*(torch.full((3,), -5.0, dtype=torch.float64) for _ in range(2)))

    def losses(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return make(DPO(0.2))(scores_of(chosen, rejected), reference).losses

    sides = [torch.tensor([-3.0, -7.0, v], dtype=torch.float64).requires_grad_() for v in (-1.0, -2.0)]
    assert torch.autograd.gradcheck(losses, sides)
