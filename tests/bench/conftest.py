"""Makes the package ``bench`` importable: it is no part of the distribution, it lies at the root of the repository."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
