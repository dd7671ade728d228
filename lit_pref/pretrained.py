"""Models whose every weight comes from their files. Knows transformers' loading; nothing of what a model is used for.

transformers draws at random what the files of a model lack, and goes on: a classifier's folder then gives a language
model with a random head. A weight that is tied to another one is not lacking.
"""

from collections.abc import Collection
from typing import Any

from transformers import PreTrainedModel

from .errors import SetupError

#: How many names of weights an error shows.
SHOWN = 3
#: What the classes of models are for, by the ends of their names, and where to get one.
KINDS = {
    "CausalLM": ("causal language model", "give the folder or hub name of a causal language model"),
    "SequenceClassification": ("classifier", "give a model that was trained for sequence classification"),
}


def pretrained(what: str, path: str, auto: Any, source: str, **options: Any) -> PreTrainedModel:
    """The model of a folder or hub name.

    Args:
        what: the model's part, for the error: "model", "the judge's model".
        path: as the user gave it.
        auto: class that loads it, one of AutoModelFor...
        source: as transformers wants it.
        options: of from_pretrained.

    Raises:
        SetupError: the files lack weights, hold them in other shapes, or are a classifier's where a causal language
            model is wanted.
        OSError, ValueError: as transformers raises them.
    """
    # Other shapes are told like missing weights; transformers would raise a RuntimeError with a table.
    model, info = auto.from_pretrained(
        source, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    lacking = {*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])}
    other = _of_another_kind(type(model).__name__, model.config.architectures or [], lacking)
    if not lacking and not other:
        return model
    raise _refusal(f"{what} {path!r}", auto.__name__.removeprefix("AutoModelFor"), model, lacking, other)


def _of_another_kind(built: str, architectures: Collection[str], lacking: Collection[str]) -> bool:
    """Whether files are those of another class than the one that was built.

    With a head that is tied to the embedding a classifier lacks nothing that a language model needs, so its name
    counts even then.
    """
    if not lacking:
        return built.endswith(("CausalLM", "LMHeadModel")) and any("Classification" in name for name in architectures)
    return built not in architectures


def _refusal(named: str, wanted: str, model: PreTrainedModel, lacking: Collection[str], other: bool) -> SetupError:
    kind, fix = KINDS[wanted]
    names = ", ".join(sorted(lacking)[:SHOWN]) + (f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else "")
    total = len(model.state_dict())
    reason = f"its files have no weights for {names}, which would be random ({len(lacking)} of {total})"
    reason = reason if lacking else "its head was trained for something else"
    found = ", ".join(model.config.architectures or []) or "no class"
    if not other:
        fix = "copy or download its files again; values in `config` cannot ask for more weights than they hold"
    return SetupError(
        f"{named} is {f'no {kind}' if other else 'incomplete'}: {reason}\n"
        f"  Its config names {found}; {type(model).__name__} was to be loaded.\n"
        f"  Fix: {fix}."
    )
