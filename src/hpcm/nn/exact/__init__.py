"""Exact arithmetic: the grid, the bound that proves it, the probe that tries it, and the making of an exact model."""
