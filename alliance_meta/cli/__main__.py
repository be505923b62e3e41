"""``python -m alliance_meta.cli`` is ``alliance-meta``."""

import sys

from alliance_meta.cli import main

sys.exit(main())
