"""Training: what it is done with (options, data, start, loss), the run and its loop, and what is seen of it."""
