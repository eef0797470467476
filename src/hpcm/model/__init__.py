"""A model as data: configuration, weights files and their names, tables of the entropy coder. No torch."""
