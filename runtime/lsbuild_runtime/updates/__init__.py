"""Signed updates of an installed artifact: fetched in parts, built beside what serves, tried, and kept or taken back.

What stands here is run by `lsbuild-update` as root, with the Python of the system and nothing else: no wheel, no import from
other rooms. The server never imports it. ``format`` and ``keys`` are what the builder knows of it.
"""
