"""The same two models on the same batch by TRL's trainers and by our scores and objectives, for every TRL loss."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from lit_pref.batch import Pair, collate
from lit_pref.scoring import score
from objectives import (
    AOT,
    BCO,
    DPO,
    EXO,
    FDPO,
    IPO,
    KTO,
    NCA,
    SFT,
    SPPO,
    APODown,
    APOZero,
    APOZeroUnpaired,
    DiscoPOP,
    DPONorm,
    Hinge,
    Objective,
    PairScores,
    RobustDPO,
    WeightedSum,
)

trl = pytest.importorskip("trl", reason="trl is not installed")
datasets = pytest.importorskip("datasets")
PAIRS = 5
Scores = tuple[PairScores, PairScores]

LOSSES: list[tuple[Objective, dict[str, Any]]] = [
    (DPO(0.3), {"loss_type": ["sigmoid"]}),
    (DPO(0.3), {"loss_type": ["sigmoid"], "label_smoothing": 0.2}),  # which it ignores
    (Hinge(0.3), {"loss_type": ["hinge"]}),
    (IPO(0.3, "mean"), {"loss_type": ["ipo"]}),
    (EXO(0.3, 0.02), {"loss_type": ["exo_pair"], "label_smoothing": 0.02}),
    (NCA(0.3), {"loss_type": ["nca_pair"]}),
    (RobustDPO(0.3, 0.2), {"loss_type": ["robust"], "label_smoothing": 0.2}),
    (BCO(0.3, "none"), {"loss_type": ["bco_pair"]}),
    (SPPO(0.3), {"loss_type": ["sppo_hard"]}),
    (AOT(0.3), {"loss_type": ["aot"]}),
    (AOT(0.3, 0.2), {"loss_type": ["aot"], "label_smoothing": 0.2}),
    (AOT(0.3, paired=False), {"loss_type": ["aot_unpaired"]}),
    (APOZero(0.3), {"loss_type": ["apo_zero"]}),
    (APODown(0.3), {"loss_type": ["apo_down"]}),
    (DiscoPOP(0.3, 0.5), {"loss_type": ["discopop"], "discopop_tau": 0.5}),
    (SFT("tokens"), {"loss_type": ["sft"]}),
    (DPONorm(0.3), {"loss_type": ["sigmoid_norm"]}),
    (FDPO(0.3, "reverse_kl"), {"loss_type": ["sigmoid"], "f_divergence_type": "reverse_kl"}),
    (FDPO(0.3, "forward_kl"), {"loss_type": ["sigmoid"], "f_divergence_type": "forward_kl"}),
    (FDPO(0.3, "js_divergence"), {"loss_type": ["sigmoid"], "f_divergence_type": "js_divergence"}),
    (
        FDPO(0.3, "alpha_divergence", alpha=0.3),
        {"loss_type": ["sigmoid"], "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
    ),
    (
        WeightedSum([DPO(0.3), SFT("tokens")], [0.8, 0.2]),
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.8, 0.2]},
    ),
]


@pytest.fixture(scope="module")
def models(small_model: Callable[..., Any]) -> list[Any]:
    return [small_model("llama", seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def pairs(random_pairs: Callable[..., list[Pair]]) -> list[Pair]:
    return random_pairs(PAIRS, longest=5)


@pytest.fixture(scope="module")
def scores(models: list[Any], pairs: list[Pair]) -> Scores:
    with torch.no_grad():
        policy, reference = (score(model, collate(pairs)) for model in models)
    return policy, reference


def setting(tmp_path: Path, config: Any, **arguments: Any) -> Any:
    return config(
        output_dir=str(tmp_path), beta=0.3, bf16=False, use_cpu=True, report_to=[], max_length=None,
        gradient_checkpointing=False, per_device_train_batch_size=PAIRS, remove_unused_columns=False, **arguments,
    )  # fmt: skip


def theirs(trainer: type, models: list[Any], folder: Path, rows: list[dict[str, Any]], config: Any) -> float:
    """TRL's loss of one batch that holds every row."""

    class Untouched(trainer):  # type: ignore[misc, valid-type]
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset  # it holds ids already

    made = Untouched(
        models[0], ref_model=models[1], args=config, train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
    with torch.no_grad():
        return made._compute_loss(made.model, made.data_collator(rows), False).item()


@pytest.mark.parametrize(
    ("objective", "arguments"), LOSSES, ids=lambda v: "-".join(map(str, getattr(v, "values", list)()))
)
def test_dpo_trainers_losses(
    objective: Objective, arguments: dict[str, Any], models: Any, pairs: Any, scores: Scores, model_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    rows = [{"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in pairs]
    loss = theirs(trl.DPOTrainer, models, model_folder, rows, setting(tmp_path, trl.DPOConfig, **arguments))
    assert objective(*scores).losses.mean().item() == pytest.approx(loss, rel=1e-5, abs=1e-6)


def test_the_two_models_disagree_enough_to_tell_losses_apart(scores: Scores) -> None:
    losses = [objective(*scores).losses.mean().item() for objective, _ in LOSSES]
    assert (scores[0].chosen.logps - scores[1].chosen.logps).abs().max() > 1
    assert len({round(loss, 4) for loss in losses}) == len(LOSSES) - 2  # sigmoid three times


@pytest.mark.parametrize(
    ("objective", "loss_type", "order"),
    [
        (KTO(0.3, 1.5, 0.5), "kto", 1),
        (KTO(0.3, 1.5, 0.5), "kto", -1),
        (APOZeroUnpaired(0.3, 1.5, 0.5), "apo_zero_unpaired", 1),
    ],
    ids=["kto", "kto-other-way-round", "apo_zero_unpaired"],
)
def test_kto_trainers_losses(
    objective: Objective, loss_type: str, order: int, models: Any, pairs: Any, model_folder: Path, tmp_path: Path
) -> None:
    """TRL is given each prompt with the next pair's responses; it averages over responses, we add those of a pair.

    Either model is once the policy: the KL estimate is then once positive and once cut off at 0.
    """
    others = [*pairs[1:], pairs[0]]
    swapped = [Pair(p.row, p.prompt, o.chosen, o.rejected) for p, o in zip(pairs, others, strict=True)]
    with torch.no_grad():
        policy, reference = (
            score(model, collate(pairs))._replace(mismatched=score(model, collate(swapped)))
            for model in models[::order]
        )
    rows = [
        {"prompt_ids": p.prompt, "completion_ids": response, "KL_completion_ids": other, "label": label}
        for p, o in zip(pairs, others, strict=True)
        for response, other, label in ((p.chosen, o.chosen, True), (p.rejected, o.rejected, False))
    ]
    arguments = {"loss_type": loss_type, "desirable_weight": 1.5, "undesirable_weight": 0.5}
    config = setting(tmp_path, trl.KTOConfig, train_sampling_strategy="sequential", **arguments)
    loss = theirs(trl.KTOTrainer, models[::order], model_folder, rows, config)
    assert objective(policy, reference).losses.mean().item() / 2 == pytest.approx(loss, rel=1e-5, abs=1e-6)
    if loss_type == "kto":
        without = objective(policy._replace(mismatched=reference.mismatched), reference).losses.mean().item() / 2
        assert (abs(without - loss) > 1e-3) == (order == -1), "the KL estimate must matter where it is positive"
