"""`inline::agent`: a model with instructions and knowledge."""
