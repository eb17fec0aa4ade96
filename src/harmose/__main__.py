"""`python -m harmose` is the command `harmose`."""

import sys

from harmose.cli import main

if __name__ == "__main__":
    sys.exit(main())
