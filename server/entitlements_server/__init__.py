"""Tokens buy depth of analysis."""
