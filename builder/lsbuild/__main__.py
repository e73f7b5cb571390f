"""`python -m lsbuild` is `lsbuild`."""

from lsbuild.cli import main

main()
