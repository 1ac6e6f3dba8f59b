"""The entitlement service. docs/architecture.md describes its packages."""
