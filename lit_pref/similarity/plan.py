"""What decides the values of a file of scores, and whether two files agree in it. Knows no model, tensor or table."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import transformers

from .. import __version__
from ..adapters import LoRA
from ..models import CausalLM
from ..paths import file_sha256
from .windows import WINDOW

#: Key of a plan -> what a person would call it.
NAMES = {
    "data": "the data",
    "pairs": "the tokeniser, template or max_length of the data",
    "model": "the model",
    "checkpoint": "the checkpoint",
    "adapters": "the adapters",
    "tokens_per_batch": "tokens_per_batch",
    "precision": "the precision",
    "device": "the kind of device",
    "transformers": "the version of transformers",
    "lit_pref": "the version of lit-pref",
}

Plan = dict[str, Any]


def make_plan(source: CausalLM, checkpoint: Path | None, **settings: Any) -> Plan:
    """Everything that decides the values, as JSON can hold it.

    Args:
        source: the model that measures.
        checkpoint: file whose policy takes the place of the model's own weights.
        settings: data, pairs, measures, tokens_per_batch, precision and device.
    """
    adapters: LoRA | None = source.lora if checkpoint is not None else None  # fresh adapters change no value
    plan = {
        "model": source.fingerprint(),
        "checkpoint": None if checkpoint is None else file_sha256(checkpoint),
        "adapters": None if adapters is None else asdict(adapters),
        "window": WINDOW,
        "transformers": transformers.__version__,
        "lit_pref": __version__,
        **settings,
    }
    return json.loads(json.dumps(plan))


def model_name(plan: Plan) -> str:
    """The one fingerprint by which lines name their model: the checkpoint's where there is one."""
    return str(plan["checkpoint"] or plan["model"])


def differences(other: Plan, plan: Plan) -> str:
    """In words, what another plan has otherwise."""
    found = []
    for key in [*plan, *(key for key in other if key not in plan)]:
        if other.get(key) != plan.get(key):
            if key == "measures":
                found.append(f"the measures ({', '.join(other.get(key) or [])})")
            else:
                found.append(NAMES.get(key, key))
    return ", ".join(found)
