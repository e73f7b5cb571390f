"""What a Python file says of its tools: read, never imported."""
