"""`python -m ravesvc.simulator` is `rave-simulator`."""

import sys

from ravesvc.simulator.cli import main

sys.exit(main())
