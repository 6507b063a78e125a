"""`python -m dfm_lightning` is the `dfm` command."""

import sys

from dfm_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
