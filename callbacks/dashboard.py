"""The layout of TensorBoard's Custom Scalars page. Knows tags, measures nothing."""

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from lit_pref.run_answers import CONTROL

from .displacement import Displacement
from .ledger import Ledger
from .mass_shift import MassShift
from .objective_weights import ObjectiveWeights
from .online_similarity import OnlineSimilarity
from .preference_metrics import PreferenceMetrics
from .refusal_rate import RefusalRate

#: Categories, their charts, and each chart's kind and tags, as TensorBoard wants them.
Layout = dict[str, dict[str, list[str | list[str]]]]


def _chart(*tags: str) -> list[str | list[str]]:
    return ["Multiline", list(tags)]


def _band(value: str, low: str, high: str) -> list[str | list[str]]:
    return ["Margin", [value, low, high]]


def _interval(name: str) -> list[str | list[str]]:
    """A curve of the training stage within its band."""
    return _band(f"{name}/train", f"{name}_low/train", f"{name}_high/train")


#: What a person should see first: chosen and rejected log-probabilities in one chart.
LAYOUT: Layout = {
    "Likelihood displacement": {
        "log-probability, validation (nats)": _chart("logps/chosen/val", "logps/rejected/val"),
        "change against the reference, validation (nats)": _chart(
            "displacement/chosen/val", "displacement/rejected/val", "displacement/margin/val"
        ),
        "change against the reference, training batches (nats)": _chart(
            "displacement/chosen/train", "displacement/rejected/train", "displacement/margin/train"
        ),
        "share of pairs": _chart("displacement/share_displaced/val", "displacement/accuracies/val"),
        "where the mass goes (mean probability, validation)": _chart(
            "mass/chosen/val", "mass/rejected/val", "mass/benign/val", "mass/catastrophic/val", "mass/other/val"
        ),
        "chosen, all pairs and worst tenth (nats)": _chart("displacement/chosen/val", "displacement/worst_decile/val"),
    },
    "Similarity of responses": {
        "CHES per length, online": _chart("ches/online_ln/train", "ches/online_ln/val"),
        "highest CHES per length, online": _chart("ches/online_ln_max/train", "ches/online_ln_max/val"),
        "CHES, online": _chart("ches/online/train", "ches/online/val"),
        "told who falls: Spearman of CHES, 95%": _interval("evidence/ches_spearman"),
        "told who falls: Spearman of CHES per length, 95%": _interval("evidence/ln_ches_spearman"),
        "told who falls: Spearman of last hidden states, 95%": _interval("evidence/last_hidden_spearman"),
        "told who falls: Spearman of edit similarity, 95%": _interval("evidence/edit_similarity_spearman"),
    },
    "Objective": {
        "loss": _chart("loss/train", "loss/val"),
        "rewards, validation": _chart("rewards/chosen/val", "rewards/rejected/val", "rewards/margins/val"),
        "weights of the two log-probabilities": _chart(
            "objective/chosen_weight/train", "objective/rejected_weight/train"
        ),
        "reward accuracy": _chart("rewards/accuracies/train", "rewards/accuracies/val"),
    },
}

#: Family of tags -> the callback that logs them; the loss is logged in any case.
LOGGED_BY: dict[str, type[pl.Callback]] = {
    "logps": PreferenceMetrics,
    "rewards": PreferenceMetrics,
    "displacement": Displacement,
    "mass": MassShift,
    "ches": OnlineSimilarity,
    "evidence": Ledger,
    "objective": ObjectiveWeights,
}


def _is_logged(chart: list[str | list[str]], callbacks: list[pl.Callback]) -> bool:
    """Whether a run with these callbacks logs any tag of a chart."""
    families = {tag.split("/")[0] for tag in chart[1]}
    return any(isinstance(one, LOGGED_BY.get(family, pl.Callback)) for family in families for one in callbacks)


def refusal_charts(rates: RefusalRate) -> dict[str, list[str | list[str]]]:
    """Charts of the judges that a run has; a chart with a band takes exact tags, so their names have to be known."""
    over = [("", ""), ("over_", "over-")] if CONTROL in rates.sources else [("", "")]
    charts: dict[str, list[str | list[str]]] = {}
    for name in rates.names:
        for tag, word in over:
            charts[f"{word}refusal rate, {name}, 95%"] = _band(
                *(f"refusal/{tag}{part}_{name}/val" for part in ("rate", "low", "high"))
            )
        abstained = [f"judge/{tag}{kind}_{name}/val" for tag, _ in over for kind in ("unparseable", "error")]
        charts[f"responses without a verdict, {name}"] = _chart(*abstained)
    return charts


def layout(trainer: pl.Trainer) -> Layout:
    """The charts of a run: those of LAYOUT that will not be empty, and those of refusals behind displacement."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    asked = [callback for callback in callbacks if isinstance(callback, RefusalRate)]
    refusals = {title: chart for rates in asked for title, chart in refusal_charts(rates).items()}
    shown = {
        name: {title: c for title, c in charts.items() if _is_logged(c, callbacks)} for name, charts in LAYOUT.items()
    }
    first, *others = shown.items()
    return {name: charts for name, charts in (first, ("Refusals", refusals), *others) if charts}


class Dashboard(pl.Callback):
    """Writes the Custom Scalars layout into the run's TensorBoard folder."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(layout(trainer))
