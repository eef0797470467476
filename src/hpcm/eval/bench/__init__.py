"""`hpcm bench`: size and speed of a model, beside others and what the machine could do at most.

bench.py         all of it: models, pictures and runners -> rows
text.py          the rows as tables
forms.py         a model exact and in floating point, and pictures to time it with
runners.py       how codecs are timed (clock.py)
split.py         where the time of decoding goes
agreement.py     whether two engines make the same symbols
reference.py     the authors' released code on the same weights
learned.py       other learned codecs (dcvc.py), from checkouts of their code (checkouts.py)
"""
