"""What watches and acts between steps. One noun, one file: a pure function and the hooks that call it."""

from .ches_pruning import CHESPruning
from .dashboard import Dashboard
from .displacement import Displacement
from .displacement_guard import DisplacementGuard
from .example_metrics import ExampleMetrics
from .example_table import ExampleTable
from .histograms import Histograms
from .hparams import HParams
from .last_checkpoint import LastCheckpoint
from .ledger import Ledger
from .mass_shift import MassShift
from .moved_rows import MovedRows
from .objective_weights import ObjectiveWeights
from .online_similarity import OnlineSimilarity
from .predictions import Predictions
from .preference_metrics import PreferenceMetrics
from .progress import PlainProgress
from .refusal_rate import RefusalRate
from .run_manifest import RunManifest
from .trajectories import Trajectories
from .validate_ends import ValidateEnds

__all__ = [
    "CHESPruning",
    "Dashboard",
    "Displacement",
    "DisplacementGuard",
    "ExampleMetrics",
    "ExampleTable",
    "HParams",
    "Histograms",
    "LastCheckpoint",
    "Ledger",
    "MassShift",
    "MovedRows",
    "ObjectiveWeights",
    "OnlineSimilarity",
    "PlainProgress",
    "Predictions",
    "PreferenceMetrics",
    "RefusalRate",
    "RunManifest",
    "Trajectories",
    "ValidateEnds",
]
