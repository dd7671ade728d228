"""The layout of TensorBoard's Custom Scalars page. Knows tags, measures nothing."""

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from lit_pref.run_answers import CONTROL

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
    """The charts of a run: LAYOUT, with those of refusals behind displacement where the run asks judges."""
    asked = [callback for callback in trainer.callbacks if isinstance(callback, RefusalRate)]  # type: ignore[attr-defined]
    refusals = {title: chart for rates in asked for title, chart in refusal_charts(rates).items()}
    first, *others = LAYOUT.items()
    return dict([first, *([("Refusals", refusals)] if refusals else []), *others])


class Dashboard(pl.Callback):
    """Writes the Custom Scalars layout into the run's TensorBoard folder."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(layout(trainer))
