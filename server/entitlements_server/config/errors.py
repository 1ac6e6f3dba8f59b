"""The base of what stops `entitlements-server`."""


class ConfigurationError(Exception):
    """It can't be done as things are set up: a setting, a file, an address, a store, a target.

    The message is for whoever started the program: what is wrong, and what to change. The command line prints
    it, in one place (`cli/__init__.py`), and ends with exit status 1.
    """
