"""Our side of a figure: small programs that run under the development environment and answer in JSON lines."""
