"""Run the `tilewright` command as `python -m tilewright.cli`."""

import sys

from .app import main

sys.exit(main())
