"""The target ``container``: one OCI image for amd64 and arm64, and the files that deploy it."""
