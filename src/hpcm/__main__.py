"""The `hpcm` command, and `python -m hpcm`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
