"""Steps done: got from the store or run by an engine, watched, and committed. What a step does is its plugin's."""
