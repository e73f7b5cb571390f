"""Many requests in one file, answered in the background: durable, one after the other, behind those of clients."""

FOLDER = "batches"
FILE_NAME = "batches.sqlite"
