"""`python -m h5flow` is the command `h5flow-async`."""

import sys

from h5flow.cli import main

if __name__ == "__main__":
    sys.exit(main())
