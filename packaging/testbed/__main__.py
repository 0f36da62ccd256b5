"""Lets `python3 packaging/testbed` run the test bed without installing anything."""

import sys

from testbed.cli import main

sys.exit(main(sys.argv[1:]))
