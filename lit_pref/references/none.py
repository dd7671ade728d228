"""No reference. For objectives that need none, where no callback asks for one either."""

from torch import nn

from ..batch import PreferenceBatch
from ..models import CausalLM
from ..scoring import SUMS, Wanted
from .base import Reference


class NoReference(Reference):
    """No reference at all: for reference-free objectives where nothing else asks for one."""

    def origin(self, policy: CausalLM) -> None:
        return None

    def score(self, policy: nn.Module, batch: PreferenceBatch, wanted: Wanted = SUMS) -> None:
        return None
