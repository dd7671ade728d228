"""What every objective must do, whatever its formula: one suite over all of them."""

import ast
import copy
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

import objectives
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
    ODPO,
    ORPO,
    RDPO,
    REBEL,
    RPO,
    RRHF,
    SFT,
    AlphaPO,
    APOZeroUnpaired,
    DiscoPOP,
    DPOShift,
    Objective,
    PairScores,
    RobustDPO,
    SimPO,
    SLiC,
    WeightedDPO,
    WeightedSum,
)

#: Exported subclasses; those that read single tokens or gradient norms wrap another objective (test_modifiers.py).
CLASSES = [
    cls
    for name in objectives.__all__
    if isinstance(cls := getattr(objectives, name), type) and issubclass(cls, Objective) and cls is not Objective
    if not (cls.needs_tokens or cls.needs_gradient_norms)
]
#: Arguments of those that have no defaults, and further ones of the others.
EXAMPLES: list[Objective] = [
    WeightedSum([DPO(0.1), SFT("sum"), KTO()], [1.0, 0.1, 0.5]),
    DPO(0.1, label_smoothing=0.1), IPO(0.1, "mean"), SimPO(2.5, gamma=1.375), SFT("sum"), SFT("tokens"),
    BCO(shift="none"), AOT(paired=False), AOT(0.1, label_smoothing=0.1), BPO(alpha=0.5), RPO(reduction="tokens"),
    RPO(reduction="sum"), CPO(reduction="mean", label_smoothing=0.1), ORPO(reduction="tokens"), AlphaPO(alpha=-0.5),
    AlphaPO(alpha=0.0), RRHF(reduction="mean"), SLiC(reduction="tokens"), KTO(0.1, 1.5, 0.5), DPOShift(0.1, 0.5, 1.0),
    *(FDPO(0.1, divergence) for divergence in ("reverse_kl", "forward_kl", "alpha_divergence")),  # type: ignore[arg-type]
    *(GPO(0.1, function) for function in ("logistic", "hinge", "squared", "exponential", "savage")),  # type: ignore[arg-type]
]  # fmt: skip
ALL = [cls() for cls in CLASSES if cls not in {WeightedSum}] + EXAMPLES
EACH = pytest.mark.parametrize("template", ALL, ids=[f"{type(o).__name__}{i}" for i, o in enumerate(ALL)])
Make = Callable[..., PairScores]
CHOSEN, REJECTED = [-12.0, -30.5, -55.0, -7.0], [-15.0, -28.0, -40.0, -21.0]
REF_CHOSEN, REF_REJECTED = [-13.0, -29.0, -50.0, -9.0], [-14.0, -29.5, -47.5, -16.0]
LENGTHS = [6, 10, 20, 3], [5, 14, 16, 8]
REWARDS = [1.0, 2.0, 0.5, 3.0], [0.0, -1.0, 0.25, 2.5]


def complete(scores: PairScores, rewards: Any = None) -> PairScores:
    """The same scores with rewards, and with the two sides of each pair exchanged as mismatched responses."""
    better, worse = rewards or (
        torch.linspace(1, 2, len(scores.chosen.logps)),
        torch.full(scores.chosen.logps.shape, -1),
    )
    chosen = scores.chosen._replace(rewards=torch.as_tensor(better))
    rejected = scores.rejected._replace(rewards=torch.as_tensor(worse))
    mismatched = [side._replace(logps=side.logps.detach() * 0.5) for side in (scores.rejected, scores.chosen)]
    return PairScores(chosen, rejected, PairScores(*mismatched))


def inputs(make_scores: Make, order: list[int], **kw: Any) -> tuple[PairScores, PairScores]:
    """Four pairs under policy and reference, in the given order."""
    chosen, rejected, ref_chosen, ref_rejected, *others = (
        [values[i] for i in order] for values in (CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, *LENGTHS, *REWARDS)
    )
    lengths, rewards = others[:2], others[2:]
    policy, reference = (
        make_scores(chosen, rejected, *lengths, **kw),
        make_scores(ref_chosen, ref_rejected, *lengths, **kw),
    )
    return complete(policy, rewards), complete(reference, rewards)


def test_every_class_is_in_the_suite() -> None:
    assert {type(objective) for objective in ALL} == set(CLASSES)
    assert len(CLASSES) >= 34


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_losses_are_one_a_pair_and_finite_with_finite_gradients(
    template: Objective, scale: float, dtype: torch.dtype, make_scores: Make
) -> None:
    objective = copy.deepcopy(template)
    for lengths in (1, 3):
        chosen = torch.linspace(-scale, 0, 7, dtype=dtype).requires_grad_()
        rejected = torch.linspace(0, -scale, 7, dtype=dtype).requires_grad_()
        counts = torch.full((7,), lengths)
        policy = complete(make_scores(chosen, rejected, counts, counts))
        reference = complete(make_scores(rejected.detach(), chosen.detach(), counts, counts))
        output = objective(policy, reference)
        assert output.losses.shape == output.chosen_rewards.shape == output.rejected_rewards.shape == (7,)
        assert output.losses.requires_grad
        assert not output.chosen_rewards.requires_grad
        assert not output.rejected_rewards.requires_grad
        gradients = torch.autograd.grad(output.losses.sum(), [chosen, rejected], allow_unused=True)
        assert gradients[0] is not None
        for values in (*output, *(g for g in gradients if g is not None)):
            assert values.isfinite().all()


@EACH
def test_a_process_without_a_pair_has_no_losses_and_learns_nothing(template: Objective, make_scores: Make) -> None:
    objective = copy.deepcopy(template)
    before = copy.deepcopy(objective.state_dict())
    empty = [], [], torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    leaf = torch.zeros(0, requires_grad=True)
    output = objective(complete(make_scores(leaf, leaf, *empty[2:])), complete(make_scores(*empty)))
    assert [values.shape for values in output] == [(0,)] * 3
    output.losses.sum().backward()
    assert {key: value.item() for key, value in objective.state_dict().items()} == {
        key: value.item() for key, value in before.items()
    }


@EACH
def test_order_of_pairs_does_not_matter(template: Objective, make_scores: Make) -> None:
    order = [2, 0, 3, 1]
    plain = copy.deepcopy(template)(*inputs(make_scores, [0, 1, 2, 3], dtype=torch.float64))
    shuffled = copy.deepcopy(template)(*inputs(make_scores, order, dtype=torch.float64))
    for a, b in zip(shuffled, plain, strict=True):
        torch.testing.assert_close(a, b[order], rtol=1e-6, atol=1e-6)  # KTO and BCO add up in float32


@EACH
def test_gradients_are_those_of_finite_differences(template: Objective, make_scores: Make) -> None:
    objective = copy.deepcopy(template).eval()
    reference = complete(make_scores([-3.0, -2.0, -6.5, -1.0], [-4.0, -3.0, -4.5, -2.0], *LENGTHS, dtype=torch.float64))

    def losses(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        policy = complete(make_scores(chosen, rejected, *LENGTHS))
        return objective(policy._replace(mismatched=reference.mismatched), reference).losses

    sides = [torch.tensor(v, dtype=torch.float64).div(10).requires_grad_() for v in (CHOSEN, REJECTED)]
    assert torch.autograd.gradcheck(losses, sides)


@EACH
def test_a_missing_reference_is_accepted_or_refused_in_words(template: Objective, make_scores: Make) -> None:
    policy, reference = inputs(make_scores, [0, 1, 2, 3])
    objective = copy.deepcopy(template).eval()
    if objective.needs_reference:
        with pytest.raises(ValueError, match="reference"):
            objective(policy, None)
    else:
        assert torch.equal(objective(policy, None).losses, objective(policy, reference).losses)


@EACH
def test_missing_rewards_and_mismatched_responses_are_refused_in_words(template: Objective, make_scores: Make) -> None:
    policy, reference = inputs(make_scores, [0, 1, 2, 3])
    bare = [make_scores(CHOSEN, REJECTED, *LENGTHS), make_scores(REF_CHOSEN, REF_REJECTED, *LENGTHS)]
    objective = copy.deepcopy(template).eval()
    if objective.needs_rewards:
        with pytest.raises(ValueError, match="give every row a chosen_reward and a rejected_reward"):
            objective(*bare)
    elif objective.needs_mismatched:
        for scores in (bare, (policy, bare[1]), (bare[0], reference)):
            with pytest.raises(ValueError, match="policy and reference must both score mismatched pairs"):
                objective(*scores)
    else:
        assert torch.equal(objective(*bare).losses, objective(policy, reference).losses)


@EACH
def test_a_step_down_the_gradient_lowers_the_loss(template: Objective, make_scores: Make) -> None:
    policy, reference = inputs(make_scores, [0, 1, 2, 3], dtype=torch.float64)
    objective = copy.deepcopy(template).eval()
    leaves = [side.logps.clone().requires_grad_() for side in policy[:2]]

    def loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        moved = policy.chosen._replace(logps=chosen), policy.rejected._replace(logps=rejected)
        return objective(PairScores(*moved, policy.mismatched), reference).losses.mean()

    before = loss(*leaves)
    gradients = torch.autograd.grad(before, leaves, allow_unused=True)
    steps = [torch.zeros_like(x) if g is None else 1e-4 * g for x, g in zip(leaves, gradients, strict=True)]
    assert loss(*(x - step for x, step in zip(leaves, steps, strict=True))) < before


def test_weighted_sum_reports_the_leading_terms_rewards(make_scores: Make) -> None:
    scores = inputs(make_scores, [0, 1, 2, 3])
    total = WeightedSum([DPO(0.1), SFT()], [2.0, 0.5])(*scores)
    assert torch.equal(total.chosen_rewards, DPO(0.1)(*scores).chosen_rewards)
    terms = [objective(*scores).losses for objective in (DPO(0.1), SFT())]
    torch.testing.assert_close(total.losses, 2.0 * terms[0] + 0.5 * terms[1])


def test_needs_are_declared() -> None:
    free = {"SFT", "SimPO", "CPO", "ORPO", "AlphaPO", "RRHF", "SLiC"}
    assert {cls.__name__ for cls in CLASSES if not cls.needs_reference} == free
    assert {cls.__name__ for cls in CLASSES if cls.needs_rewards} == {"ODPO", "REBEL"}
    assert {cls.__name__ for cls in CLASSES if cls.needs_mismatched} == {"KTO"}
    assert WeightedSum([SFT(), DPO()], [1, 1]).needs_reference
    assert not WeightedSum([SFT(), SimPO()], [1, 1]).needs_reference
    assert WeightedSum([SFT(), KTO()], [1, 1]).needs_mismatched
    assert WeightedSum([SFT(), ODPO()], [1, 1]).needs_rewards


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls not in {WeightedSum, SFT, REBEL, RRHF, SLiC}])
@pytest.mark.parametrize("beta", [-1, 0, math.nan, math.inf])
def test_a_beta_that_is_not_positive_is_refused(cls: Any, beta: float) -> None:
    with pytest.raises(ValueError, match=f"^beta is {beta}, but must be a positive number$"):
        cls(beta=beta)


REDUCTION = "reduction is 'max', but must be 'sum', 'mean' or 'tokens'"
BAD: list[tuple[Any, dict[str, Any], str]] = [
    (DPO, {"label_smoothing": 0.6}, "label_smoothing is 0.6, but must be at least 0 and below 0.5"),
    (RobustDPO, {"label_smoothing": 0.5}, "label_smoothing is 0.5, but must be at least 0 and below 0.5"),
    (AOT, {"label_smoothing": -0.1}, "label_smoothing is -0.1, but must be at least 0 and below 0.5"),
    (CPO, {"label_smoothing": 0.5}, "label_smoothing is 0.5, but must be at least 0 and below 0.5"),
    (EXO, {"label_smoothing": 0.0}, "label_smoothing is 0.0, but must be above 0 and below 0.5"),
    (IPO, {"reduction": "max"}, "reduction is 'max', but must be 'sum' or 'mean'"),
    *((cls, {"reduction": "max"}, REDUCTION) for cls in (SFT, RPO, CPO, ORPO, RRHF, SLiC)),
    (SimPO, {"gamma": -1.0}, "gamma (or gamma_beta_ratio) is -1.0, but must be at least 0"),
    (SimPO, {"gamma": 1.0, "gamma_beta_ratio": 0.5}, "gamma and gamma_beta_ratio are both given"),
    (BCO, {"shift": "mean"}, "shift is 'mean', but must be 'running' or 'none'"),
    (DiscoPOP, {"tau": 1.5}, "tau is 1.5, but must be above 0 and at most 1"),
    (RDPO, {"alpha": -0.1}, "alpha is -0.1, but must be at least 0"),
    (ODPO, {"alpha": math.nan}, "alpha is nan, but must be at least 0"),
    (RPO, {"alpha": -1}, "alpha is -1, but must be at least 0"),
    (CPO, {"alpha": -1}, "alpha is -1, but must be at least 0"),
    (BPO, {"alpha": 0}, "alpha is 0, but must be above 0 and at most 1"),
    (FDPO, {"alpha": 1.0}, "alpha is 1.0, but must be above 0 and below 1"),
    (FDPO, {"divergence": "kl"}, "divergence is 'kl', but must be one of reverse_kl, forward_kl"),
    (GPO, {"function": "cubic"}, "function is 'cubic', but must be one of logistic, hinge"),
    (REBEL, {"eta": 0}, "eta is 0, but must be a positive number"),
    (DPOP, {"penalty": -1}, "penalty is -1, but must be at least 0"),
    (DPOShift, {"shift": 0}, "shift is 0, but must be above 0 and at most 1"),
    (DPOShift, {"final_shift": 1.5}, "final_shift is 1.5, but must be above 0 and at most 1"),
    (WeightedDPO, {"chosen_weight": -1}, "chosen_weight is -1, but must be at least 0"),
    (WeightedDPO, {"rejected_weight": math.inf}, "rejected_weight is inf, but must be at least 0"),
    (AlphaPO, {"gamma": -1}, "gamma is -1, but must be at least 0"),
    (AlphaPO, {"alpha": math.inf}, "alpha is inf, but must be a finite number"),
    (RRHF, {"rank_weight": -1}, "rank_weight is -1, but must be at least 0"),
    (SLiC, {"delta": 0}, "delta is 0, but must be a positive number"),
    (SLiC, {"nll_weight": -1}, "nll_weight is -1, but must be at least 0"),
    *(
        (cls, {key: 0}, f"{key} is 0, but must be a positive number")
        for cls in (KTO, APOZeroUnpaired)
        for key in ("desirable_weight", "undesirable_weight")
    ),
    (WeightedSum, {"objectives": [DPO()], "weights": [1.0, 2.0]}, "1 numbers, one an objective"),
    (WeightedSum, {"objectives": [], "weights": []}, "at least one objective"),
    (WeightedSum, {"objectives": [DPO()], "weights": [math.nan]}, "finite numbers"),
]


@pytest.mark.parametrize(("cls", "arguments", "words"), BAD, ids=lambda v: getattr(v, "__name__", None))
def test_bad_numbers_are_refused_naming_key_and_range(cls: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the words are compared below
        cls(**arguments)
    assert words in str(caught.value)


def test_the_package_imports_torch_and_nothing_of_the_framework() -> None:
    code = "import objectives, sys; print([m for m in ('lightning', 'transformers', 'lit_pref') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_objective_is_exported() -> None:
    code = (
        "import objectives\n"
        "def below(cls):\n"
        "    return [cls] + [found for child in cls.__subclasses__() for found in below(child)]\n"
        "print([c.__name__ for c in below(objectives.Objective) if 'forward' in vars(c)])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    defined = set(ast.literal_eval(output))
    assert defined >= {cls.__name__ for cls in CLASSES}
    assert defined <= set(objectives.__all__)
