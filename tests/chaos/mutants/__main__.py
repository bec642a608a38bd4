"""The command `python -m tests.chaos.mutants`."""

import sys

from tests.chaos.mutants.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
