"""``python -m lsbuild_runtime.serve --root DIR``."""

from __future__ import annotations

import sys

from lsbuild_runtime.serve.main import main

sys.exit(main(sys.argv[1:]))
