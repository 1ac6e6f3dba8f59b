"""An example: five depths of one analysis behind an API, each at its own cost in tokens."""
