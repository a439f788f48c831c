"""Embedded street networks (data only)."""
