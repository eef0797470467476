"""The binding to libhpcm (core/ in the repository): the exact codec in C, and its entropy coder."""
