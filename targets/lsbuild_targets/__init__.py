"""One file per target: what it packs a bundle into and how that is proved; no target knows another."""
