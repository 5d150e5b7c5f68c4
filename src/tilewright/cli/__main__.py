"""`python -m tilewright.cli` is the `tilewright` command."""

import sys

from .app import main

sys.exit(main())
