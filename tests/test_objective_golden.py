"""Objectives and presets against numbers that other code bases computed, and against TRL's functions running."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser

from objectives import (
    AOT,
    BCO,
    CPO,
    DPO,
    EXO,
    FDPO,
    IPO,
    NCA,
    ORPO,
    SFT,
    SPPO,
    AlphaPO,
    APODown,
    APOZero,
    DiscoPOP,
    DPONorm,
    Hinge,
    Objective,
    PairScores,
    RobustDPO,
    SimPO,
    WeightedSum,
)

PRESETS = Path(__file__).resolve().parents[1] / "configs" / "presets"
Scores = tuple[PairScores, PairScores]

# Inputs, β = 0.1 unless said otherwise.
CHOSEN, REJECTED = [-12.0, -30.5, -55.0], [-15.0, -28.0, -40.0]
REF_CHOSEN, REF_REJECTED = [-13.0, -29.0, -50.0], [-14.0, -29.5, -47.5]
LENGTHS = [6, 10, 20], [5, 14, 16]

# What TRL 1.16's DPOTrainer computed on them, by loss_type (and f_divergence_type).
SIGMOID = [0.59813887, 0.85435522, 1.50192904]
HINGE = [0.80000001, 1.29999995, 2.25]
IPO_MEAN = [21.46777725, 27.63755226, 32.70410156]
NCA_PAIR = [1.33879328, 1.46691418, 1.77955103]
BCO_PAIR = [1.28879333, 1.54191422, 2.11094809]
SPPO_HARD = [32.0, 84.5, 256.25]
AOT_PAIRED = [1.50192904, 0.85435522, 0.59813887]  # in sorted order
AOT_PAIRED_SMOOTH = [1.37692893, 0.82435519, 0.61813885]  # in sorted order, label_smoothing 0.1
AOT_UNPAIRED = [0.91301525, 0.85435522, 1.07005537]  # in sorted order
APO_ZERO = [0.95004165, 1.07485962, 1.30163801]
APO_DOWN = [0.97514522, 1.0370127, 1.15484059]
DISCOPOP = [0.81476319, 0.85558039, 1.50192904]
SFT_TOKENS = 2.70833302  # one number a batch
SIGMOID_NORM = [0.67498189, 0.70608693, 0.72973031]
ROBUST = [0.57313883, 0.89185512, 1.65817904]  # label_smoothing 0.1
EXO_PAIR = [2.42201471, 3.28651166, 4.83931589]  # label_smoothing 1e-3
FORWARD_KL = [0.58251673, 0.92857498, 14.84126186]
JS = [0.64439666, 0.77095711, 0.9744606]
ALPHA = [0.59434915, 0.87107408, 2.5160253]  # coefficient 0.5
# TRL 1.16's CPOTrainer and ORPOTrainer.
CPO_SIGMOID = [0.5543552, 0.82593942, 1.70141327]
CPO_HINGE = [0.69999999, 1.25, 2.5]
CPO_IPO_MEAN = [16.0, 36.60250092, 27.5625]
CPO_SIMPO = [0.91301525, 1.04071903, 0.98971176]  # gamma 0.5
CPO_SIMPO_LARGE = [0.28115013, 4.01814985, 2.12692809]  # beta 2.5, gamma 1.375
CPO_ALPHAPO = [0.0101744, 5.05546856, 1.54487288]  # beta 2.5, gamma 0.1, alpha 0.25
ORPO_TERM = [-0.02887508, -0.14227243, -0.08369984]  # β·log σ(log-odds)
# Mitchell's code, OpenRLHF and Razin et al. (IPO); Mitchell's code, LLaMA-Factory and OpenRLHF (label_smoothing 0.1).
IPO_SUM = [9.0, 64.0, 306.25]
CDPO = [0.61813885, 0.82435519, 1.37692893]

GOLDEN: list[tuple[Objective, list[float]]] = [
    (DPO(0.1), SIGMOID),
    (DPO(0.1, label_smoothing=0.1), CDPO),
    (IPO(0.1, "sum"), IPO_SUM),
    (IPO(0.1, "mean"), IPO_MEAN),
    (Hinge(0.1), HINGE),
    (RobustDPO(0.1, label_smoothing=0.1), ROBUST),
    (EXO(0.1, label_smoothing=1e-3), EXO_PAIR),
    (NCA(0.1), NCA_PAIR),
    (BCO(0.1, shift="none"), BCO_PAIR),
    (SPPO(0.1), SPPO_HARD),
    (APOZero(0.1), APO_ZERO),
    (APODown(0.1), APO_DOWN),
    (DiscoPOP(0.1, tau=0.05), DISCOPOP),
    (DPONorm(0.1), SIGMOID_NORM),
    (FDPO(0.1, "reverse_kl"), SIGMOID),
    (FDPO(0.1, "forward_kl"), FORWARD_KL),
    (FDPO(0.1, "js_divergence"), JS),
    (FDPO(0.1, "alpha_divergence", alpha=0.5), ALPHA),
    (CPO(0.1, alpha=0.0), CPO_SIGMOID),
    (SimPO(0.1, gamma=0.5), CPO_SIMPO),
    (SimPO(2.5, gamma=1.375), CPO_SIMPO_LARGE),
    (SimPO(2.5, gamma_beta_ratio=0.55), CPO_SIMPO_LARGE),
    (AlphaPO(2.5, gamma=0.1, alpha=0.25), CPO_ALPHAPO),
    (WeightedSum([ORPO(0.1), SFT("mean")], [-1.0, 1.0]), ORPO_TERM),
    (SFT("sum"), [12.0, 30.5, 55.0]),
    (SFT("mean"), [2.0, 3.05, 2.75]),
    (WeightedSum([DPO(0.1), SFT("sum")], [1.0, 0.1]), [1.79813887, 3.90435522, 7.00192904]),
]
# Its losses are those of the batch, sorted, in no pair's order.
SORTED = [(AOT(0.1), AOT_PAIRED), (AOT(0.1, 0.1), AOT_PAIRED_SMOOTH), (AOT(0.1, paired=False), AOT_UNPAIRED)]


@pytest.fixture
def golden_inputs(make_scores: Callable[..., PairScores]) -> Scores:
    """The golden pairs, with mismatched responses whose log-ratios average 2 nats."""
    policy, reference = make_scores(CHOSEN, REJECTED, *LENGTHS), make_scores(REF_CHOSEN, REF_REJECTED, *LENGTHS)
    mismatched = make_scores([-20.0, -31.0], [-25.0, -12.0]), make_scores([-21.0, -34.0], [-26.0, -15.0])
    return policy._replace(mismatched=mismatched[0]), reference._replace(mismatched=mismatched[1])


def close(actual: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("objective", "expected"), GOLDEN, ids=lambda v: type(v).__name__)
def test_golden_values(objective: Objective, expected: list[float], golden_inputs: Scores) -> None:
    close(objective(*golden_inputs).losses, expected)


@pytest.mark.parametrize(("objective", "expected"), SORTED, ids=["paired", "smoothed", "unpaired"])
def test_golden_values_of_a_batch(objective: Objective, expected: list[float], golden_inputs: Scores) -> None:
    close(objective(*golden_inputs).losses.sort().values, sorted(expected))


def test_golden_value_of_a_mean_over_tokens(golden_inputs: Scores) -> None:
    assert SFT("tokens")(*golden_inputs).losses.mean().item() == pytest.approx(SFT_TOKENS, abs=1e-5)


def test_cpos_other_losses_are_ours_against_a_uniform_reference(golden_inputs: Scores, make_scores: Any) -> None:
    uniform = make_scores([0.0] * 3, [0.0] * 3)
    close(Hinge(0.1)(golden_inputs[0], uniform).losses, CPO_HINGE)
    close(IPO(0.1, "mean")(golden_inputs[0], uniform).losses, CPO_IPO_MEAN)


# --- TRL's functions, running -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "arguments", "mean"),
    [
        (CPO(0.3, alpha=0.0), {"loss_type": "sigmoid"}, False),
        (CPO(0.3, alpha=0.0, label_smoothing=0.2), {"loss_type": "sigmoid", "label_smoothing": 0.2}, False),
        (SimPO(0.3, gamma=0.7), {"loss_type": "simpo", "simpo_gamma": 0.7}, True),
        (AlphaPO(0.3, gamma=0.7, alpha=0.4), {"loss_type": "simpo", "simpo_gamma": 0.7, "alpha": 0.4}, True),
        (AlphaPO(0.3, gamma=0.7, alpha=-0.4), {"loss_type": "simpo", "simpo_gamma": 0.7, "alpha": -0.4}, True),
    ],
    ids=["cpo", "cpo-smoothed", "simpo", "alphapo", "alphapo-negative"],
)
def test_reference_free_losses_are_trls(
    objective: Objective, arguments: dict[str, Any], mean: bool, make_scores: Any
) -> None:
    trainer = pytest.importorskip("trl.experimental.cpo", reason="trl is not installed").CPOTrainer
    lengths = torch.randint(1, 9, (2, 16), generator=torch.Generator().manual_seed(0))
    logps = -3 * lengths * torch.rand(2, 16, generator=torch.Generator().manual_seed(1))
    settings = {"beta": 0.3, "alpha": 0.0, "label_smoothing": 0.0, "simpo_gamma": 0.0} | arguments
    stub = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), **settings)
    theirs = trainer.cpo_loss(stub, *(logps / lengths if mean else logps))
    ours = objective(make_scores(*logps, *lengths), None)
    torch.testing.assert_close(ours.losses, theirs[0])
    torch.testing.assert_close(torch.stack(ours[1:]), torch.stack(theirs[1:]))


def test_the_odds_ratio_term_is_trls(make_scores: Any) -> None:
    trainer = pytest.importorskip("trl.experimental.orpo", reason="trl is not installed").ORPOTrainer
    mean_logps = -5 * torch.rand(2, 64, generator=torch.Generator().manual_seed(0))
    stub = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), beta=0.3)
    theirs = trainer.odds_ratio_loss(stub, *mean_logps)[0]
    ours = WeightedSum([ORPO(0.3), SFT()], [-1.0, 1.0])(make_scores(*mean_logps), None).losses
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


# --- presets ------------------------------------------------------------------------------------------------------


def load(name: str) -> Objective:
    """The objective of a preset, through the parser that the command line uses."""
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--model.objective", type=Objective)
    return parser.instantiate_classes(parser.parse_args(["--config", str(PRESETS / f"{name}.yaml")])).model.objective


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def minus_log_sigmoid(value: float) -> float:
    return math.log1p(math.exp(-value))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


MARGINS = [2.0, -3.0, -12.5]  # Δ of the golden pairs
MEAN_MARGINS = [c / n - r / m for c, r, n, m in zip(CHOSEN, REJECTED, *LENGTHS, strict=True)]
#: Preset -> losses of the golden pairs and whose they are; a single number is the mean of a batch.
CONFORMANCE: dict[str, tuple[list[float] | float, str]] = {
    "trl/dpo": (SIGMOID, "TRL sigmoid, executed"),
    "trl/ipo": (IPO_MEAN, "TRL ipo, executed"),
    "trl/robust_dpo": (ROBUST, "TRL robust, executed"),
    "trl/hinge": (HINGE, "TRL hinge, executed"),
    "trl/exo": (EXO_PAIR, "TRL exo_pair, executed"),
    "trl/nca": (NCA_PAIR, "TRL nca_pair, executed"),
    "trl/bco": (BCO_PAIR, "TRL bco_pair, executed"),
    "trl/sppo": (SPPO_HARD, "TRL sppo_hard, executed"),
    "trl/aot": (mean(AOT_PAIRED), "TRL aot, executed"),
    "trl/aot_unpaired": (mean(AOT_UNPAIRED), "TRL aot_unpaired, executed"),
    "trl/apo_zero": (APO_ZERO, "TRL apo_zero, executed"),
    "trl/apo_down": (APO_DOWN, "TRL apo_down, executed"),
    "trl/discopop": (DISCOPOP, "TRL discopop, executed"),
    "trl/dpo_norm": (SIGMOID_NORM, "TRL sigmoid_norm, executed"),
    "trl/sft": (SFT_TOKENS, "TRL sft, executed"),
    "trl/fdpo_alpha": (ALPHA, "TRL sigmoid with alpha_divergence, executed"),
    "trl/cpo": (mean(CPO_SIGMOID) + SFT_TOKENS, "TRL cpo_loss sigmoid + its likelihood, executed"),
    "trl/simpo": (mean(CPO_SIMPO) + SFT_TOKENS, "TRL cpo_loss simpo + its likelihood, executed"),
    "trl/alphapo": (mean(CPO_ALPHAPO) + SFT_TOKENS, "TRL cpo_loss alphapo + its likelihood, executed"),
    "trl/orpo": (SFT_TOKENS - mean(ORPO_TERM), "TRL odds_ratio_loss + likelihood of responses, executed"),
    "mitchell/dpo": (SIGMOID, "Mitchell's preference_loss, which is TRL's sigmoid"),
    "mitchell/cdpo": (CDPO, "Mitchell's preference_loss with label_smoothing, executed"),
    "mitchell/ipo": (IPO_SUM, "Mitchell's preference_loss with ipo, executed"),
    "simpo/simpo": ([minus_log_sigmoid(2.0 * (m - 0.25)) for m in MEAN_MARGINS], "the authors' formula by hand"),
    "razin2025/dpo": (SIGMOID, "the same formula as TRL's sigmoid"),
    "razin2025/ipo": ([(margin - 50.0) ** 2 for margin in MARGINS], "the paper's formula on sums by hand"),
    "razin2025/dpo_sft": ([d - 0.1 * c for d, c in zip(SIGMOID, CHOSEN, strict=True)], "summed likelihood by hand"),
    "halos/cdpo": (
        [0.8 * minus_log_sigmoid(0.1 * m) + 0.2 * minus_log_sigmoid(-0.1 * m) for m in MARGINS],
        "HALOs' formula by hand",
    ),
    "halos/ipo": (IPO_MEAN, "HALOs averages over tokens, as TRL, executed"),
    "halos/simpo": ([minus_log_sigmoid(10.0 * (m - 0.3)) for m in MEAN_MARGINS], "HALOs' formula by hand"),
    "halos/slic": (
        [max(0.0, 1.0 - c + r) - 0.1 * c for c, r in zip(CHOSEN, REJECTED, strict=True)],
        "HALOs' formula by hand, of each pair",
    ),
    "halos/kto": (
        [sigmoid(0.1 * (2.0 - a)) + sigmoid(0.1 * (b - 2.0)) for a, b in [(1.0, -1.0), (-1.5, 1.5), (-5.0, 7.5)]],
        "HALOs' formula by hand, summed over the two examples of a pair; KL estimate 2",
    ),
}  # fmt: skip


def test_every_preset_is_listed() -> None:
    assert {str(p.relative_to(PRESETS).with_suffix("")) for p in PRESETS.rglob("*.yaml")} == set(CONFORMANCE)


@pytest.mark.parametrize("name", CONFORMANCE)
def test_a_preset_computes_what_its_code_base_computes(name: str, golden_inputs: Scores) -> None:
    expected, source = CONFORMANCE[name]
    losses = load(name)(*golden_inputs).losses
    if isinstance(expected, float):
        assert losses.mean().item() == pytest.approx(expected, abs=1e-5, rel=1e-5), source
    else:
        assert losses.tolist() == pytest.approx(expected, abs=1e-5, rel=1e-5), source
