"""What the policy is compared with, and where displacement has its zero."""

from .adapters_off import AdaptersOff
from .base import Reference
from .cached import CachedModel
from .frozen import FrozenModel
from .moving import MovingModel
from .none import NoReference

__all__ = ["AdaptersOff", "CachedModel", "FrozenModel", "MovingModel", "NoReference", "Reference"]
