"""lsbuild compiles a distribution spec into the smallest artifact that serves it; this module holds the version only."""

__version__ = "0.1.0"
