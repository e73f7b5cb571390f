"""The thin runtime that ships in every artifact; it stands alone and may import nothing of the builder."""

__version__ = "0.1.0"
