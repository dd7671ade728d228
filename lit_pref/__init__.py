"""lit-pref: study and fix likelihood displacement in preference optimization, with PyTorch Lightning."""

__version__ = "0.1.0"
