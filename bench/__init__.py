"""Side-by-side benchmarks: our figures and those of named peers from one run on one machine; nothing here ships.

Only the standard library is imported at the top of these modules: peers run them with a Python that has no lsbuild.
"""
