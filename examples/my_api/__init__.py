"""An API with a paid endpoint, and its tests."""
