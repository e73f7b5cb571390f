"""`inline::route`: models that stand in for each other."""
