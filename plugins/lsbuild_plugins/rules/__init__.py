"""`inline::rules`: shields made of patterns, words and validators, compiled at build; `serve` is what ships."""
