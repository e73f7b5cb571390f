"""Serves a bundle on AWS Lambda: the Runtime API instead of a port; nothing here is imported anywhere else."""
