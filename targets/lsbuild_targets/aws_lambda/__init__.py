"""Target ``lambda``: zip files or an image for AWS Lambda, with templates, a deployment and proofs on this machine."""
