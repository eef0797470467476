"""Archives as data sets for PyTorch."""
