"""What can go wrong for a user, each kind with its exit code. Knows nothing of what raises it.

Bad data have their own kind, ``lit_pref.data.rows.DataError``, with exit code 4.
"""


class PrefError(Exception):
    """A failure that a person can mend; its text says what, where, why and the fix, and no traceback is shown."""

    exit_code = 1


class ConfigError(PrefError, ValueError):
    """The configuration asks for something that cannot be done."""

    exit_code = 2


class SetupError(PrefError):
    """The machine lacks something: a file, a package, a device, the network."""

    exit_code = 5
