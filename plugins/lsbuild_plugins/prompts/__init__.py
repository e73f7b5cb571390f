"""`inline::prompts`: texts with places that an artifact brings along."""
