"""The `hpcm` command, and `python -m hpcm`."""

import sys

INTERRUPTED = 130  # exit code of Ctrl-C


def main() -> int:
    """The command line, which is imported here: Ctrl-C may come before it can handle signals, or after that."""
    try:
        from .cli import main

        return main()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
