"""What watches and acts between steps. One noun, one file: a pure function and the hooks that call it."""

from .ches_pruning import CHESPruning
from .dashboard import Dashboard
from .displacement import Displacement
from .example_metrics import ExampleMetrics
from .example_table import ExampleTable
from .last_checkpoint import LastCheckpoint
from .mass_shift import MassShift
from .moved_rows import MovedRows
from .objective_weights import ObjectiveWeights
from .predictions import Predictions
from .preference_metrics import PreferenceMetrics
from .progress import PlainProgress
from .validate_ends import ValidateEnds

__all__ = [
    "CHESPruning",
    "Dashboard",
    "Displacement",
    "ExampleMetrics",
    "ExampleTable",
    "LastCheckpoint",
    "MassShift",
    "MovedRows",
    "ObjectiveWeights",
    "PlainProgress",
    "Predictions",
    "PreferenceMetrics",
    "ValidateEnds",
]
