"""Released models that hpcm reads but doesn't bundle: weights files, one for each, and no code."""
