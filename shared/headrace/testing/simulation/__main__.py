"""The command."""

import sys

from headrace.testing.simulation.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
