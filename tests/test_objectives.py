"""Objectives against published golden values, closed forms and autograd."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

import objectives
from objectives import DPO, IPO, SFT, Objective, PairScores, SimPO, WeightedSum

# Inputs and outputs of TRL 1.16's own functions (sigmoid, ipo, CPO's simpo, CPO's ipo), and of Mitchell's DPO code
# (IPO on sums, conservative DPO), executed on the same numbers.
CHOSEN, REJECTED = [-12.0, -30.5, -55.0], [-15.0, -28.0, -40.0]
REF_CHOSEN, REF_REJECTED = [-13.0, -29.0, -50.0], [-14.0, -29.5, -47.5]
LENGTHS = [6, 10, 20], [5, 14, 16]
GOLDEN = [
    (DPO(beta=0.1), [0.59813887, 0.85435522, 1.50192904]),
    (DPO(beta=0.1, label_smoothing=0.1), [0.61813885, 0.82435519, 1.37692893]),
    (IPO(beta=0.1, reduction="sum"), [9.0, 64.0, 306.25]),
    (IPO(beta=0.1, reduction="mean"), [21.46777725, 27.63755226, 32.70410156]),
    (SimPO(beta=0.1, gamma=0.5), [0.91301525, 1.04071903, 0.98971176]),
    (SimPO(beta=2.5, gamma=1.375), [0.28115013, 4.01814985, 2.12692809]),
    (SimPO(beta=2.5, gamma_beta_ratio=0.55), [0.28115013, 4.01814985, 2.12692809]),
    (SFT(reduction="sum"), [12.0, 30.5, 55.0]),
    (SFT(reduction="mean"), [2.0, 3.05, 2.75]),
    (WeightedSum([DPO(0.1), SFT("sum")], [1.0, 0.1]), [1.79813887, 3.90435522, 7.00192904]),
]
ALL = [objective for objective, _ in GOLDEN]


@pytest.fixture
def golden_inputs(make_scores: Callable[..., PairScores]) -> tuple[PairScores, PairScores]:
    return make_scores(CHOSEN, REJECTED, *LENGTHS), make_scores(REF_CHOSEN, REF_REJECTED, *LENGTHS)


@pytest.mark.parametrize(("objective", "expected"), GOLDEN, ids=lambda v: type(v).__name__)
def test_golden_values(objective: Objective, expected: list[float], golden_inputs: Any) -> None:
    torch.testing.assert_close(objective(*golden_inputs).losses, torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("objective", ALL, ids=lambda o: type(o).__name__)
def test_losses_are_a_pair_each_and_finite_at_extreme_log_ratios(
    objective: Objective, make_scores: Callable[..., PairScores]
) -> None:
    for scale in (1.0, 1e4):
        chosen = torch.linspace(-scale, -1, 7).requires_grad_()
        rejected = torch.linspace(-1, -scale, 7).requires_grad_()
        output = objective(make_scores(chosen, rejected), make_scores(rejected.detach(), chosen.detach()))
        assert output.losses.shape == output.chosen_rewards.shape == output.rejected_rewards.shape == (7,)
        gradients = torch.autograd.grad(output.losses.sum(), [chosen, rejected], allow_unused=True)
        for values in (output.losses, *(g for g in gradients if g is not None)):
            assert values.isfinite().all()


@pytest.mark.parametrize("objective", ALL, ids=lambda o: type(o).__name__)
def test_order_of_pairs_does_not_matter(objective: Objective, golden_inputs: Any, make_scores: Any) -> None:
    order = [2, 0, 1]
    shuffled = [
        make_scores(*([values[i] for i in order] for values in columns))
        for columns in ((CHOSEN, REJECTED, *LENGTHS), (REF_CHOSEN, REF_REJECTED, *LENGTHS))
    ]
    assert torch.equal(objective(*shuffled).losses, objective(*golden_inputs).losses[order])


@pytest.mark.parametrize("objective", ALL, ids=lambda o: type(o).__name__)
def test_gradients_are_those_of_finite_differences(objective: Objective, make_scores: Any) -> None:
    def losses(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        reference = make_scores(chosen.detach() * 0 - 3.0, rejected.detach() * 0 - 4.0, *LENGTHS)
        return objective(make_scores(chosen, rejected, *LENGTHS), reference).losses

    sides = [torch.tensor(v, dtype=torch.float64).div(10).requires_grad_() for v in (CHOSEN, REJECTED)]
    assert torch.autograd.gradcheck(losses, sides)


@pytest.mark.parametrize(
    ("objective", "loss"),
    [(DPO(0.3), math.log(2)), (DPO(0.3, 0.2), math.log(2)), (IPO(0.01), 2500.0), (IPO(0.1, "mean"), 25.0)],
    ids=str,
)
def test_loss_where_policy_is_the_reference(objective: Objective, loss: float, make_scores: Any) -> None:
    scores = make_scores([-3.0, -40.0], [-5.0, -2.0], dtype=torch.float64)
    output = objective(scores, scores)
    assert output.losses.tolist() == pytest.approx([loss, loss], abs=1e-12)
    assert output.chosen_rewards.tolist() == output.rejected_rewards.tolist() == [0.0, 0.0]


def test_dpo_weights_are_those_of_the_paper(make_scores: Any) -> None:
    """-dL/dlogp(chosen) = dL/dlogp(rejected) = β·σ(-βΔ): Rafailov et al. 2023, section 4."""
    beta, chosen = 0.2, torch.tensor([-3.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-7.0], dtype=torch.float64, requires_grad=True)
    losses = DPO(beta)(make_scores(chosen, rejected), make_scores([-4.0], [-5.0], dtype=torch.float64)).losses
    d_chosen, d_rejected = torch.autograd.grad(losses.sum(), [chosen, rejected])
    expected = beta / (1 + math.exp(beta * (1.0 - -2.0)))
    assert -d_chosen.item() == pytest.approx(expected, rel=1e-12)
    assert d_rejected.item() == pytest.approx(expected, rel=1e-12)


def test_ipo_is_zero_at_its_target_margin(make_scores: Any) -> None:
    scores = make_scores([-1.0], [-6.0])
    assert IPO(beta=0.1)(scores, make_scores([-1.0], [-1.0])).losses.item() == pytest.approx(0.0, abs=1e-9)


def test_weighted_sum_reports_the_leading_terms_rewards(golden_inputs: Any) -> None:
    total = WeightedSum([DPO(0.1), SFT()], [2.0, 0.5])(*golden_inputs)
    assert torch.equal(total.chosen_rewards, DPO(0.1)(*golden_inputs).chosen_rewards)
    terms = [objective(*golden_inputs).losses for objective in (DPO(0.1), SFT())]
    torch.testing.assert_close(total.losses, 2.0 * terms[0] + 0.5 * terms[1])


def test_needs_are_declared() -> None:
    assert [o.needs_reference for o in (DPO(), IPO(), SimPO(), SFT())] == [True, True, False, False]
    assert WeightedSum([SFT(), DPO()], [1, 1]).needs_reference
    assert not WeightedSum([SFT(), SimPO()], [1, 1]).needs_reference


@pytest.mark.parametrize("objective", [DPO(), IPO()], ids=["DPO", "IPO"])
def test_a_missing_reference_is_said_in_words(objective: Objective, golden_inputs: Any) -> None:
    with pytest.raises(ValueError, match="no reference scores were given"):
        objective(golden_inputs[0], None)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DPO(beta=-1), "beta is -1, but must be a positive number"),
        (lambda: DPO(beta=math.nan), "beta is nan"),
        (lambda: DPO(beta=math.inf), "beta is inf"),
        (lambda: DPO(label_smoothing=0.6), "label_smoothing is 0.6, but must be at least 0 and below 0.5"),
        (lambda: IPO(beta=0), "beta is 0"),
        (lambda: IPO(reduction="max"), "reduction is 'max', but must be 'sum' or 'mean'"),  # type: ignore[arg-type]
        (lambda: SimPO(gamma=1.0, gamma_beta_ratio=0.5), "keep one"),
        (lambda: SimPO(gamma=-1.0), "at least 0"),
        (lambda: SFT(reduction="tokens"), "reduction is 'tokens'"),  # type: ignore[arg-type]
        (lambda: WeightedSum([DPO()], [1.0, 2.0]), "1 numbers, one an objective"),
        (lambda: WeightedSum([], []), "at least one objective"),
        (lambda: WeightedSum([DPO()], [math.nan]), "finite numbers"),
    ],
)
def test_bad_numbers_are_refused_naming_key_and_range(make: Callable[[], Objective], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        make()


def test_the_package_imports_torch_and_nothing_of_the_framework() -> None:
    code = "import objectives, sys; print([m for m in ('lightning', 'transformers', 'lit_pref') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_objective_is_exported() -> None:
    defined = {cls.__name__ for cls in Objective.__subclasses__() if cls.__module__.startswith("objectives")}
    assert defined <= set(objectives.__all__)
