"""``python -m otelagent``: the command ``otelagent``."""

from __future__ import annotations

import sys

from otelagent.cli.main import main

sys.exit(main())
