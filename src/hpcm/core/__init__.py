"""Integers: the entropy coder, and what an engine gives to the codec."""
