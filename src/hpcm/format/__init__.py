"""The .hpcm file: fields, their bounds, and how they lie in bytes."""
