"""Experiments of the paper as commands: many runs of ``lit-pref fit``, one table and one figure. Imports no torch."""
