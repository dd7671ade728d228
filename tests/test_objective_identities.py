"""What the papers say of their objectives: weights, values at the reference, limits, invariances, state."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from objectives import (
    AOT,
    BCO,
    BPO,
    CPO,
    DPO,
    DPOP,
    EXO,
    FDPO,
    GPO,
    IPO,
    KTO,
    NCA,
    ODPO,
    ORPO,
    RDPO,
    REBEL,
    RPO,
    RRHF,
    SFT,
    SPPO,
    AlphaPO,
    APODown,
    APOZero,
    APOZeroUnpaired,
    CalDPO,
    DiscoPOP,
    DPONorm,
    DPOShift,
    Hinge,
    Objective,
    PairScores,
    RobustDPO,
    SimPO,
    SLiC,
    WeightedDPO,
    WeightedSum,
)

CHOSEN, REJECTED = [-12.0, -30.5, -55.0, -7.0], [-15.0, -28.0, -40.0, -21.0]
REF_CHOSEN, REF_REJECTED = [-13.0, -29.0, -50.0, -9.0], [-14.0, -29.5, -47.5, -16.0]
LENGTHS = [6, 10, 20, 3], [5, 14, 16, 8]
REWARDS = [1.0, 2.0, 0.5, 3.0], [0.0, -1.0, 0.25, 2.5]
Z0 = 0.75  # mean log-ratio of the mismatched responses below
LN2 = math.log(2)
Make = Callable[..., PairScores]


def side(make_scores: Make, chosen: Any, rejected: Any, mismatched: Any) -> PairScores:
    scores = make_scores(chosen, rejected, *LENGTHS, dtype=torch.float64)
    chosen_side, rejected_side = (
        side._replace(rewards=torch.tensor(r, dtype=torch.float64)) for side, r in zip(scores[:2], REWARDS, strict=True)
    )
    return PairScores(chosen_side, rejected_side, make_scores(*mismatched, dtype=torch.float64))


@pytest.fixture
def policy(make_scores: Make) -> PairScores:
    return side(make_scores, CHOSEN, REJECTED, ([-4.0, -9.0], [-3.0, -8.0]))


@pytest.fixture
def reference(make_scores: Make) -> PairScores:
    return side(make_scores, REF_CHOSEN, REF_REJECTED, ([-5.0, -8.0], [-6.0, -8.0]))


# --- d_w = -dL/d logp(chosen), d_l = dL/d logp(rejected) ----------------------------------------------------------
# Formulas in plain numbers: a, b log-ratios, D = a - b, w, l log-probabilities, n, m lengths, g reward gap.


def s(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def log_odds(x: float) -> float:
    return x - math.log(1 - math.exp(x))


def simpo_weight(p: Any) -> float:
    return 2.5 * s(1.0 - 2.5 * (p.w / p.n - p.l / p.m))


class P:
    """The numbers of one pair."""

    def __init__(self, i: int) -> None:
        self.w, self.l, self.n, self.m = CHOSEN[i], REJECTED[i], LENGTHS[0][i], LENGTHS[1][i]
        self.a, self.b = self.w - REF_CHOSEN[i], self.l - REF_REJECTED[i]
        self.D, self.g = self.a - self.b, REWARDS[0][i] - REWARDS[1][i]
        self.z = log_odds(self.w / self.n) - log_odds(self.l / self.m)
        self.sum = sum(LENGTHS[0])


Weight = Callable[[P], float]
WEIGHTS: list[tuple[Objective, Weight, Weight]] = [
    (DPO(0.2), lambda p: 0.2 * s(-0.2 * p.D), lambda p: 0.2 * s(-0.2 * p.D)),
    (RDPO(0.2, 0.3), *[lambda p: 0.2 * s(-(0.2 * p.D + 0.3 * (p.n - p.m)))] * 2),
    (ODPO(0.2, 0.5), *[lambda p: 0.2 * s(-(0.2 * p.D - 0.5 * math.log(p.g)))] * 2),
    (IPO(0.2), *[lambda p: 2 * (2.5 - p.D)] * 2),
    (Hinge(0.2), *[lambda p: 0.2 * (p.D < 5)] * 2),
    (REBEL(2.0), *[lambda p: (2 / 2.0) * (p.g - p.D / 2.0)] * 2),
    (SLiC(1.0, 0.1), lambda p: (p.w - p.l < 1) + 0.1, lambda p: float(p.w - p.l < 1)),
    (
        RRHF(2.0),
        lambda p: 2.0 * (p.l / p.m > p.w / p.n) / p.n + 1,
        lambda p: 2.0 * (p.l / p.m > p.w / p.n) / p.m,
    ),
    (SimPO(2.5, gamma=1.0), lambda p: simpo_weight(p) / p.n, lambda p: simpo_weight(p) / p.m),
    (CPO(0.2, 0.5, "sum"), lambda p: 0.2 * s(-0.2 * (p.w - p.l)) + 0.5, lambda p: 0.2 * s(-0.2 * (p.w - p.l))),
    (RPO(0.2, 0.5, "sum"), lambda p: 0.2 * s(-0.2 * p.D) + 0.5, lambda p: 0.2 * s(-0.2 * p.D)),
    (RPO(0.2, 0.5, "mean"), lambda p: 0.2 * s(-0.2 * p.D) + 0.5 / p.n, lambda p: 0.2 * s(-0.2 * p.D)),
    (RPO(0.2, 0.5, "tokens"), lambda p: 0.2 * s(-0.2 * p.D) + 0.5 * 4 / p.sum, lambda p: 0.2 * s(-0.2 * p.D)),
    (
        DPOP(0.2, 3.0),
        lambda p: 0.2 * (1 + 3 * (p.a < 0)) * s(-0.2 * (p.D - 3 * max(0, -p.a))),
        lambda p: 0.2 * s(-0.2 * (p.D - 3 * max(0, -p.a))),
    ),
    (
        DPOShift(0.2, 0.6),
        lambda p: 0.2 * s(-0.2 * (p.a - 0.6 * p.b)),
        lambda p: 0.6 * 0.2 * s(-0.2 * (p.a - 0.6 * p.b)),
    ),
    (
        WeightedDPO(0.2, 1.5, 0.6),
        lambda p: 1.5 * 0.2 * s(-0.2 * (1.5 * p.a - 0.6 * p.b)),
        lambda p: 0.6 * 0.2 * s(-0.2 * (1.5 * p.a - 0.6 * p.b)),
    ),
    (CalDPO(0.2), lambda p: s(-p.D) + 2.5 - p.a, lambda p: s(-p.D) + p.b + 2.5),
    (SPPO(0.2), lambda p: 2 * (2.5 - p.a), lambda p: 2 * (p.b + 2.5)),
    (
        KTO(0.2, 1.5, 0.5),
        lambda p: 1.5 * 0.2 * s(0.2 * (p.a - Z0)) * s(-0.2 * (p.a - Z0)),
        lambda p: 0.5 * 0.2 * s(0.2 * (Z0 - p.b)) * s(-0.2 * (Z0 - p.b)),
    ),
    (BCO(0.2, "none"), lambda p: 0.2 * s(-0.2 * p.a), lambda p: 0.2 * s(0.2 * p.b)),
    (NCA(0.2), lambda p: 0.2 * s(-0.2 * p.a) - 0.1 * s(0.2 * p.a), lambda p: 0.1 * s(0.2 * p.b)),
    (
        BPO(0.2, 0.5),
        lambda p: 0.2 * s(-0.2 * p.a) * (p.a < -0.5 * p.b),
        lambda p: 0.5 * 0.2 * s(0.1 * p.b) * (p.a > -0.5 * p.b),
    ),
    (
        ORPO(0.2, "mean"),
        lambda p: (1 + 0.2 * s(-p.z) / (1 - math.exp(p.w / p.n))) / p.n,
        lambda p: 0.2 * s(-p.z) / (1 - math.exp(p.l / p.m)) / p.m,
    ),
]


@pytest.mark.parametrize(("objective", "d_w", "d_l"), WEIGHTS, ids=lambda v: type(v).__name__)
def test_weights_of_both_log_probabilities(
    objective: Objective, d_w: Weight, d_l: Weight, policy: PairScores, reference: PairScores
) -> None:
    """The table of weights of Yuan et al. 2024 (https://arxiv.org/abs/2410.13828), extended, against autograd."""
    chosen, rejected = (scores.logps.clone().requires_grad_() for scores in policy[:2])
    moving = PairScores(
        policy.chosen._replace(logps=chosen), policy.rejected._replace(logps=rejected), policy.mismatched
    )
    d_chosen, d_rejected = torch.autograd.grad(objective(moving, reference).losses.sum(), [chosen, rejected])
    pairs = [P(i) for i in range(len(CHOSEN))]
    assert (-d_chosen).tolist() == pytest.approx([d_w(p) for p in pairs], rel=1e-6, abs=1e-12)
    assert d_rejected.tolist() == pytest.approx([d_l(p) for p in pairs], rel=1e-6, abs=1e-12)


RATIOS: list[Objective] = [
    DPO(0.2), RobustDPO(0.2), IPO(0.2), Hinge(0.2), EXO(0.2), NCA(0.2), BCO(0.2), SPPO(0.2), AOT(0.2), APOZero(0.2),
    APODown(0.2), APOZeroUnpaired(0.2), KTO(0.2), DiscoPOP(0.2), RDPO(0.2), ODPO(0.2), REBEL(5.0), GPO(0.2),
    CalDPO(0.2), FDPO(0.2, "reverse_kl"), DPOP(0.2), DPOShift(0.2), BPO(0.2), WeightedDPO(0.2), RPO(0.2),
]  # fmt: skip
REWARDED: list[tuple[Objective, Weight, Weight]] = [
    *((objective, lambda p: 0.2 * p.a, lambda p: 0.2 * p.b) for objective in RATIOS),
    (IPO(0.2, "mean"), lambda p: 0.2 * p.a / p.n, lambda p: 0.2 * p.b / p.m),
    (DPONorm(0.2), lambda p: 0.2 * p.a / p.n, lambda p: 0.2 * p.b / p.m),
    (FDPO(0.2, "forward_kl"), lambda p: 0.2 * (1 - math.exp(-p.a)), lambda p: 0.2 * (1 - math.exp(-p.b))),
    (FDPO(0.2, "js_divergence"), lambda p: 0.2 * math.log(2 * s(p.a)), lambda p: 0.2 * math.log(2 * s(p.b))),
    (SimPO(0.2), lambda p: 0.2 * p.w / p.n, lambda p: 0.2 * p.l / p.m),
    (ORPO(0.2), lambda p: 0.2 * p.w / p.n, lambda p: 0.2 * p.l / p.m),
    (
        AlphaPO(0.2, alpha=0.5),
        lambda p: 0.4 * (1 - math.exp(-0.5 * p.w / p.n)),
        lambda p: 0.4 * (1 - math.exp(-0.5 * p.l / p.m)),
    ),
    (RRHF(), lambda p: p.w / p.n, lambda p: p.l / p.m),
    (CPO(0.2), lambda p: 0.2 * p.w, lambda p: 0.2 * p.l),
    (SLiC(), lambda p: p.w, lambda p: p.l),
    (SFT("sum"), lambda p: p.w, lambda p: p.l),
]


@pytest.mark.parametrize(("objective", "chosen", "rejected"), REWARDED, ids=lambda v: type(v).__name__)
def test_rewards(
    objective: Objective, chosen: Weight, rejected: Weight, policy: PairScores, reference: PairScores
) -> None:
    output = objective(policy, reference)
    pairs = [P(i) for i in range(len(CHOSEN))]
    assert output.chosen_rewards.tolist() == pytest.approx([chosen(p) for p in pairs])
    assert output.rejected_rewards.tolist() == pytest.approx([rejected(p) for p in pairs])


# --- values where the policy is the reference ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "losses"),
    [
        (DPO(0.3), LN2),
        (DPO(0.3, 0.2), LN2),
        (RobustDPO(0.3, 0.2), LN2),
        (IPO(0.01), 2500.0),
        (IPO(0.1, "mean"), 25.0),
        (Hinge(0.3), 1.0),
        (REBEL(0.5), [1.0, 9.0, 0.0625, 0.25]),
        (ODPO(0.3), [math.log(1 + g) for g in (1.0, 3.0, 0.25, 0.5)]),
        (DPOShift(0.3, 0.5), LN2),
        (DPOP(0.3), LN2),
        (DPONorm(), LN2),
        (WeightedDPO(0.3, 2.0, 0.5), LN2),
        (BPO(0.3), LN2),
        (AOT(0.3), LN2),
        (AOT(0.3, paired=False), LN2),
        (FDPO(0.3, "forward_kl"), LN2),
        (FDPO(0.3, "js_divergence"), LN2),
        (FDPO(0.3, "alpha_divergence"), LN2),
        (DiscoPOP(0.3), LN2 / 2 + 0.5),
        (CalDPO(0.1), LN2 + 25.0),
        (SPPO(0.1), 50.0),
        (APOZero(0.3), 1.0),
        (APODown(0.3), 1.0),
        (APOZeroUnpaired(0.3, 1.5, 0.5), 1.0),
        (KTO(0.3), 1.0),
        (NCA(0.3), 2 * LN2),
        (BCO(0.3), 2 * LN2),
        (GPO(0.3, "exponential"), 1.0),
        (GPO(0.3, "truncated_quadratic"), 1.0),
        (GPO(0.3, "savage"), 0.25),
    ],
    ids=lambda v: type(v).__name__,
)
def test_loss_where_policy_is_the_reference(objective: Objective, losses: Any, reference: PairScores) -> None:
    output = objective(reference, reference)
    expected = losses if isinstance(losses, list) else [losses] * 4
    assert output.losses.tolist() == pytest.approx(expected, abs=1e-7)
    assert output.chosen_rewards.tolist() == output.rejected_rewards.tolist() == [0.0] * 4


def test_rdpo_at_the_reference_is_offset_by_lengths(reference: PairScores) -> None:
    expected = [math.log1p(math.exp(-0.2 * (n - m))) for n, m in zip(*LENGTHS, strict=True)]
    assert RDPO(0.3, 0.2)(reference, reference).losses.tolist() == pytest.approx(expected)


# --- limits -------------------------------------------------------------------------------------------------------

SAME: list[tuple[Objective, Objective]] = [
    (DPOShift(0.2, 1.0), DPO(0.2)),
    (DPOP(0.2, 0.0), DPO(0.2)),
    (ODPO(0.2, 0.0), DPO(0.2)),
    (RDPO(0.2, 0.0), DPO(0.2)),
    (RPO(0.2, 0.0), DPO(0.2)),
    (RobustDPO(0.2, 0.0), DPO(0.2)),
    (WeightedDPO(0.2, 1.0, 1.0), DPO(0.2)),
    (WeightedDPO(0.2, 1.0, 0.5), DPOShift(0.2, 0.5)),
    (FDPO(0.2, "reverse_kl"), DPO(0.2)),
    (FDPO(0.2, "alpha_divergence", 1e-7), DPO(0.2)),
    (FDPO(0.2, "alpha_divergence", 1 - 1e-9), FDPO(0.2, "forward_kl")),
    (GPO(0.2, "logistic"), DPO(0.2)),
    (GPO(0.2, "hinge"), Hinge(0.2)),
    (GPO(0.2, "squared"), WeightedSum([IPO(0.1)], [0.04])),
    (AlphaPO(2.0, 0.5, 0.0), SimPO(2.0, gamma=0.5)),
    (AlphaPO(2.0, 0.5, 1e-7), SimPO(2.0, gamma=0.5)),
    (APOZeroUnpaired(0.2), APOZero(0.2)),
    (RPO(0.2, 0.5, "sum"), WeightedSum([DPO(0.2), SFT("sum")], [1.0, 0.5])),
    (RPO(0.2, 0.5, "tokens"), WeightedSum([DPO(0.2), SFT("tokens")], [1.0, 0.5])),
    (CPO(0.2, 0.5, "mean"), WeightedSum([CPO(0.2, 0.0), SFT("mean")], [1.0, 0.5])),
    (RRHF(0.0, "mean"), SFT("mean")),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=lambda o: type(o).__name__)
def test_limits(one: Objective, other: Objective, policy: PairScores, reference: PairScores) -> None:
    torch.testing.assert_close(one(policy, reference).losses, other(policy, reference).losses, rtol=1e-5, atol=1e-6)


def test_dpop_is_dpo_where_the_chosen_response_did_not_fall(policy: PairScores, reference: PairScores) -> None:
    same = torch.isclose(DPOP(0.2, 5.0)(policy, reference).losses, DPO(0.2)(policy, reference).losses)
    assert same.tolist() == [True, False, False, True]


def test_without_a_reference_is_against_a_uniform_one(policy: PairScores, make_scores: Make) -> None:
    uniform = make_scores([0.0] * 4, [0.0] * 4, dtype=torch.float64)
    torch.testing.assert_close(CPO(0.2, 0.0)(policy, None).losses, DPO(0.2)(policy, uniform).losses)
    torch.testing.assert_close(SimPO(0.2, gamma=0.0)(policy, None).losses, DPONorm(0.2)(policy, uniform).losses)
    single = make_scores(CHOSEN, REJECTED, dtype=torch.float64)  # one token each
    torch.testing.assert_close(SimPO(0.2, gamma=0.0)(single, None).losses, DPO(0.2)(single, uniform).losses)


def test_ipo_is_zero_at_its_target_margin(make_scores: Make) -> None:
    scores = make_scores([-1.0], [-6.0])
    assert IPO(beta=0.1)(scores, make_scores([-1.0], [-1.0])).losses.item() == pytest.approx(0.0, abs=1e-9)


def test_exo_is_zero_where_the_policy_agrees_with_the_label(make_scores: Make) -> None:
    margin = math.log(0.8 / 0.2) / 0.5
    scores = make_scores([margin], [0.0], dtype=torch.float64), make_scores([0.0], [0.0], dtype=torch.float64)
    assert EXO(0.5, label_smoothing=0.2)(*scores).losses.item() == pytest.approx(0.0, abs=1e-12)


def test_robust_dpo_is_dpo_on_average_over_flipped_labels(policy: PairScores, reference: PairScores) -> None:
    swapped = [PairScores(scores.rejected, scores.chosen) for scores in (policy, reference)]
    losses, flipped = RobustDPO(0.2, 0.3)(policy, reference).losses, RobustDPO(0.2, 0.3)(*swapped).losses
    torch.testing.assert_close(0.7 * losses + 0.3 * flipped, DPO(0.2)(policy, reference).losses)


def test_aot_on_one_pair_is_dpo(policy: PairScores, reference: PairScores, make_scores: Make) -> None:
    for i in range(4):
        pair = make_scores(CHOSEN[i : i + 1], REJECTED[i : i + 1])
        other = make_scores(REF_CHOSEN[i : i + 1], REF_REJECTED[i : i + 1])
        for paired in (True, False):
            torch.testing.assert_close(AOT(0.2, paired=paired)(pair, other).losses, DPO(0.2)(pair, other).losses)
    assert not torch.allclose(AOT(0.2, paired=False)(policy, reference).losses, DPO(0.2)(policy, reference).losses)


@pytest.mark.parametrize("log_ratio", [-1e4, -300.0, -90.0, -1.0, 0.0, 1.0, 90.0, 1e4])
def test_discopop_equals_its_equation_wherever_that_does_not_overflow(log_ratio: float, make_scores: Make) -> None:
    z = log_ratio
    scores = make_scores([z], [0.0], dtype=torch.float64), make_scores([0.0], [0.0], dtype=torch.float64)
    loss = DiscoPOP(1.0, 0.5)(*scores).losses.item()
    blend = math.exp(-math.log1p(math.exp(-2 * z))) if z > -300 else 0.0
    logistic = math.log1p(math.exp(-z)) if z > -300 else -z
    assert loss == pytest.approx(logistic * (1 - blend) + (math.exp(-z) * blend if blend else 0.0), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        ("logistic", lambda z: math.log1p(math.exp(-z))),
        ("hinge", lambda z: max(0.0, 1 - z)),
        ("squared", lambda z: (1 - z) ** 2),
        ("exponential", lambda z: math.exp(-z) if z > -50 else math.exp(50) * (1 - z - 50)),
        ("truncated_quadratic", lambda z: max(0.0, 1 - z) ** 2),
        ("savage", lambda z: 1 / (1 + math.exp(z)) ** 2),
    ],
)
def test_functions_of_the_margin(function: Any, formula: Callable[[float], float], make_scores: Make) -> None:
    margins = [-60.0, -49.0, -3.0, 0.0, 0.5, 4.0]
    scores = make_scores(margins, [0.0] * 6, dtype=torch.float64), make_scores([0.0] * 6, [0.0] * 6)
    expected = [formula(m) for m in margins]
    assert GPO(1.0, function)(*scores).losses.tolist() == pytest.approx(expected, rel=1e-6)


def test_convex_functions_of_the_margin_are_convex_and_savage_is_not(make_scores: Make) -> None:
    margins = torch.linspace(-80, 20, 2001, dtype=torch.float64)
    zeros = torch.zeros_like(margins)
    for function in ("logistic", "hinge", "squared", "exponential", "truncated_quadratic", "savage"):
        objective = GPO(1.0, function)  # type: ignore[arg-type]
        losses = objective(make_scores(margins, zeros), make_scores(zeros, zeros)).losses
        bends = losses[2:] - 2 * losses[1:-1] + losses[:-2] >= -1e-12 * losses.abs().max()
        assert bool(bends.all()) == (function != "savage")


# --- invariances --------------------------------------------------------------------------------------------------


def shifted(scores: PairScores, constant: float) -> PairScores:
    """Chosen log-probabilities with the same constant added, as a part of the prompt would."""
    return scores._replace(chosen=scores.chosen._replace(logps=scores.chosen.logps + constant))


@pytest.mark.parametrize(
    "objective",
    [
        DPO(), RobustDPO(), IPO(), Hinge(), EXO(), NCA(), BCO(shift="none"), SPPO(), AOT(), AOT(paired=False),
        APOZero(), APODown(), APOZeroUnpaired(), KTO(), DiscoPOP(), DPONorm(), RDPO(), ODPO(), REBEL(), GPO(), FDPO(),
        CalDPO(), DPOP(), DPOShift(), BPO(), WeightedDPO(), RPO(alpha=0.0),
    ],
    ids=lambda o: type(o).__name__,
)  # fmt: skip
def test_a_constant_on_policy_and_reference_changes_nothing(
    objective: Objective, policy: PairScores, reference: PairScores
) -> None:
    moved = objective(shifted(policy, -3.0), shifted(reference, -3.0)).losses
    torch.testing.assert_close(moved, objective(policy, reference).losses)


@pytest.mark.parametrize(
    "objective", [SFT(), SimPO(), CPO(), ORPO(), AlphaPO(), RRHF(), SLiC(), RPO()], ids=lambda o: type(o).__name__
)
def test_a_constant_changes_likelihoods(objective: Objective, policy: PairScores, reference: PairScores) -> None:
    moved = objective(shifted(policy, -3.0), shifted(reference, -3.0)).losses
    assert not torch.isclose(moved, objective(policy, reference).losses, rtol=1e-3).all()


@pytest.mark.parametrize(
    "objective", [DPO(), RobustDPO(), IPO(), Hinge(), EXO(), DiscoPOP(), GPO()], ids=lambda o: type(o).__name__
)
def test_swapping_the_responses_flips_the_margin(
    objective: Objective, policy: PairScores, reference: PairScores, make_scores: Make
) -> None:
    swapped = objective(*(PairScores(scores.rejected, scores.chosen) for scores in (policy, reference))).losses
    margins = torch.tensor([P(i).D for i in range(4)], dtype=torch.float64)
    zeros = make_scores([0.0] * 4, [0.0] * 4, dtype=torch.float64)
    torch.testing.assert_close(swapped, objective(make_scores(-margins, [0.0] * 4), zeros).losses)


# --- ORPO's odds ----------------------------------------------------------------------------------------------------


def test_log_odds_are_exact_where_one_minus_p_underflows_naively() -> None:
    from objectives.orpo import log_odds

    logps = [-1e-6, -1e-3, -0.1, -math.log(2), -1.0, -20.0, -1e4]
    expected = [x - math.log(-math.expm1(x)) for x in logps]
    assert log_odds(torch.tensor(logps)).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for dtype in (torch.float32, torch.bfloat16):
        certain = torch.zeros(1, dtype=dtype, requires_grad=True)
        odds = log_odds(certain)
        assert odds.isfinite()
        assert torch.autograd.grad(odds.sum(), certain)[0].isfinite()


# --- state: schedules, running means, KL, rewards -----------------------------------------------------------------


@pytest.mark.parametrize(("start", "end"), [(0.5, None), (0.75, 1.0), (1.0, 0.75)])
@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_dpo_shift_follows_its_schedule(
    start: float, end: float | None, progress: float, policy: PairScores, reference: PairScores
) -> None:
    objective = DPOShift(0.2, start, end)
    total = WeightedSum([objective], [1.0])
    total.progress = progress
    now = start if end is None else start + progress * (end - start)
    expected = WeightedDPO(0.2, 1.0, now)(policy, reference).losses
    torch.testing.assert_close(total(policy, reference).losses, expected)


def test_bco_shifts_by_the_mean_of_all_rewards_seen(make_scores: Make) -> None:
    objective = BCO(0.1)
    seen: list[float] = []
    for ratios in ([1.0, 5.0, -2.0], [4.0], [-7.0, 3.0]):
        zeros = [0.0] * len(ratios)
        output = objective(make_scores(ratios, zeros), make_scores(zeros, [2.0] * len(ratios)))
        seen += [0.1 * r for r in ratios] + [-0.2] * len(ratios)
        shift = sum(seen) / len(seen)
        assert objective.reward_shift.item() == pytest.approx(shift, abs=1e-6)
        expected = [-math.log(s(0.1 * r - shift)) - math.log(s(shift + 0.2)) for r in ratios]
        assert output.losses.tolist() == pytest.approx(expected, abs=1e-6)
    assert objective.rewards_seen.item() == len(seen) == 12


def test_bco_does_not_move_in_evaluation_and_is_kept_in_checkpoints(make_scores: Make) -> None:
    objective, scores = BCO(0.1), (make_scores([4.0], [1.0]), make_scores([0.0], [0.0]))
    objective(*scores)
    state = objective.state_dict()
    assert state["reward_shift"].item() == pytest.approx(0.25)
    objective.eval()(make_scores([90.0], [90.0]), make_scores([0.0], [0.0]))
    assert objective.reward_shift.item() == pytest.approx(0.25)
    resumed = BCO(0.1)
    resumed.load_state_dict(state)
    assert torch.equal(resumed.eval()(*scores).losses, objective(*scores).losses)
    still = BCO(0.1, "none")
    still(*scores)
    assert still.reward_shift.item() == 0.0


def test_ktos_kl_is_the_mean_over_mismatched_responses_never_negative_and_detached(
    policy: PairScores, reference: PairScores, make_scores: Make
) -> None:
    from objectives.kto import mismatched_kl

    assert mismatched_kl(policy, reference).item() == pytest.approx(Z0)
    assert mismatched_kl(*(scores._replace(mismatched=policy) for scores in (policy, reference))).item() == 0.0
    below = policy._replace(mismatched=reference.mismatched), reference._replace(mismatched=policy.mismatched)
    assert mismatched_kl(*below).item() == 0.0
    leaf = torch.zeros(2, requires_grad=True)
    moving = policy._replace(mismatched=make_scores(leaf, leaf))
    losses = KTO(0.2)(moving, reference).losses
    assert not losses.requires_grad
    zero = KTO(0.2)(*below).losses
    torch.testing.assert_close(zero, APOZero(0.2)(policy, reference).losses)
    assert not torch.allclose(zero, KTO(0.2)(policy, reference).losses)


@pytest.mark.parametrize("wrap", [lambda o: o, lambda o: WeightedSum([SFT(), o], [1.0, 1.0])], ids=["alone", "summed"])
def test_odpo_refuses_rewards_that_do_not_rank_the_pair(wrap: Callable[[Objective], Objective]) -> None:
    chosen = torch.tensor([2.0, 1.0, 0.5, float("nan"), 1.5])
    unusable, rule = wrap(ODPO()).unusable_rewards(chosen, torch.ones(5))
    assert unusable.tolist() == [False, True, True, True, False]
    assert rule == "ODPO needs every chosen_reward above rejected_reward"


@pytest.mark.parametrize("objective", [DPO(), REBEL()], ids=["DPO", "REBEL"])
def test_others_refuse_no_reward(objective: Objective) -> None:
    assert not objective.unusable_rewards(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]))[0].any()


def test_rebel_accepts_any_rewards(policy: PairScores, reference: PairScores) -> None:
    swapped = PairScores(
        policy.chosen._replace(rewards=policy.rejected.rewards), policy.rejected._replace(rewards=policy.chosen.rewards)
    )
    expected = [(P(i).D / 2.0 + P(i).g) ** 2 for i in range(4)]
    assert REBEL(2.0)(swapped, reference).losses.tolist() == pytest.approx(expected)


def test_reductions_of_the_likelihood(policy: PairScores) -> None:
    assert SFT("sum")(policy).losses.tolist() == [-c for c in CHOSEN]
    assert SFT("mean")(policy).losses.tolist() == pytest.approx(
        [-c / n for c, n in zip(CHOSEN, LENGTHS[0], strict=True)]
    )
    tokens = SFT("tokens")(policy)
    assert tokens.losses.mean().item() == pytest.approx(-sum(CHOSEN) / sum(LENGTHS[0]))
    assert tokens.rejected_rewards.mean().item() == pytest.approx(sum(REJECTED) / sum(LENGTHS[1]))
