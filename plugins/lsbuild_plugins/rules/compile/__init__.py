"""From packs of rules to the file that a shield reads; it serves nothing."""
