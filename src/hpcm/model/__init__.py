"""The HPCM networks: torch, tensors in and tensors out, no bytes and no files."""
