"""The numbers that may stand side by side under different objectives. Knows their tags, units and families.

Losses and rewards are not among them: each objective has its own, in its own scale.
"""

from typing import NamedTuple


class Metric(NamedTuple):
    """A number of a run's last validation.

    Attributes:
        tag: in metrics.csv, without the stage.
        title: for a head of a table.
        unit: of its values; "" for none.
        family: the metrics whose tests are corrected together.
    """

    tag: str
    title: str
    unit: str
    family: str

    @property
    def head(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def is_share(self) -> bool:
        return self.unit == "share"


CHOSEN = Metric("displacement/chosen", "chosen", "nats", "log-probabilities")
MARGIN = Metric("displacement/margin", "margin", "nats", "log-probabilities")
DISPLACEMENT = (
    CHOSEN,
    Metric("displacement/rejected", "rejected", "nats", "log-probabilities"),
    MARGIN,
    Metric("displacement/chosen_per_token", "chosen per token", "nats/token", "per token"),
    Metric("displacement/rejected_per_token", "rejected per token", "nats/token", "per token"),
    Metric("displacement/share_displaced", "pairs displaced", "share", "pairs"),
    Metric("displacement/worst_decile", "worst tenth, chosen", "nats", "pairs"),
    Metric("displacement/accuracies", "margin grew", "share", "pairs"),
)
LENGTH = Metric("generation/tokens", "generated length", "tokens", "length")


def refusal_metrics(judges: list[str]) -> list[Metric]:
    """What judges say, and how often they say nothing; the tags of shares without a verdict are the report's own."""
    found = []
    for judge in judges:
        found += [
            Metric(f"refusal/rate_{judge}", f"refusals, {judge}", "share", "refusals"),
            Metric(f"refusal/abstained_{judge}", f"no verdict, {judge}", "share", "abstentions"),
            Metric(f"refusal/over_rate_{judge}", f"over-refusals, {judge}", "share", "refusals"),
            Metric(f"refusal/over_abstained_{judge}", f"no verdict on harmless, {judge}", "share", "abstentions"),
        ]
    return found
