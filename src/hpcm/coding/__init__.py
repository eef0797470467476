"""Coding a latent, whatever computes: configuration, schedule, drivers, THE loop, and what makes sums exact."""
