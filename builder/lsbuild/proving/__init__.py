"""What ``verify`` and ``doctor`` are made of: questions to a booted artifact, how answers agree, and the machine itself."""
