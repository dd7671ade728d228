"""Which tokens gained probability, and what had been predicted of them: a panel an arm. Knows tokens."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .drawing import COLOURS, INK, Drawing, label, panels
from .numbers import signed
from .texts import token_text
from .tokens import SECTIONS, Tokens, tokens_of

TITLES = {"first": "First tokens that gained most", "overall": "Tokens that gained most within chosen responses"}


def draw(section: str, masses: Mapping[str, Sequence[Mapping[str, Any]]]) -> Drawing | str:
    """The figure of one section of mass.json, or why there is none."""
    found = {arm: own for arm, files in masses.items() if (own := tokens_of(files, section))}
    if not found:
        return f"no run has mass.json with tokens that gained in its section {section!r}"
    most = max(len(own.gained) for own in found.values())
    figure, axes = panels(len(found), height=0.62 + 0.165 * most, most=2, share_y=False)
    rows: list[tuple[object, ...]] = []
    highest = max(own.gained[0].gain for own in found.values())
    for ax, (arm, own) in zip(axes, found.items(), strict=True):
        for place, token in enumerate(own.gained):
            ax.barh(place, token.gain, height=0.7, color=COLOURS[2], edgecolor=INK, linewidth=0.5)
            seen = f", {token.runs} of {own.runs} runs" if token.runs < own.runs else ""
            rank = "not predicted" if math.isnan(token.rank) else f"predicted rank {token.rank:,.0f}"
            ax.text(token.gain + 0.015 * highest, place, f"{rank}{seen}", fontsize=6.5, va="center")
            rows.append((arm, place + 1, token_text(token.text, 60), *token[1:], own.runs))
        ax.set_yticks(range(len(own.gained)), [token_text(t.text, 14) for t in own.gained])
        ax.set_ylim(most - 0.4, -0.6)
        ax.set_xlim(0, 1.7 * highest)
        ax.locator_params(axis="x", nbins=4)
        ax.set_title(f"{label(arm)}\n{_spearman(own)}", fontsize=7.5)
    figure.supxlabel("gain of mean probability", fontsize=8)
    runs = sorted({own.runs for own in found.values()})
    caption = (
        f"Change of the mean probability since before training, over {SECTIONS[section]}; means over the runs that "
        f"list a token ({' or '.join(map(str, runs))} an arm). Behind each bar, its place in the ranking that the "
        "output embeddings and the pairs predict before training (1: should rise most). ρ: Spearman's correlation of "
        "that prediction with the change over the vocabulary, one a run."
    )
    head = ["arm", "place", "token", "gain", "before", "after", "predicted_rank", "runs_listing", "runs"]
    return Drawing(f"tokens_{section}", TITLES[section], caption, figure, head, rows)


def _spearman(own: Tokens) -> str:
    said = ", ".join(signed(rho) for rho in own.spearman[:4])
    return f"ρ = {said}{', …' if len(own.spearman) > 4 else ''}"
