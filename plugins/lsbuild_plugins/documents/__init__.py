"""What plugins that hold documents share at build: which documents form a step, and the step that cuts and embeds them.

It is no plugin: plugins may import it, it imports none of them, and nothing of it ships.
"""
