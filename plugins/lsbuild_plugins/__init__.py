"""One folder per provider: plugin.py and compile (build time), serve (ships in the artifact); no plugin knows another."""
