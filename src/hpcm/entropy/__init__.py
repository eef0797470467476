"""Entropy coding with integers only: probabilities become tables once, symbols and table indexes become bytes.

    tables.py   the generalised Gaussian -> 16-bit frequencies (floats, once, when a model is made)
    coder.py    symbols + table indexes <-> bytes (integers, for every picture)

Depends on numpy and constriction, never on torch.
"""
