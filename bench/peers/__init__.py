"""The other side: small programs that run under .venv-bench, import nothing of lsbuild, and answer in JSON lines."""
