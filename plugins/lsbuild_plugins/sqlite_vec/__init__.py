"""`inline::sqlite-vec`: documents become passages, vectors and one read-only SQLite file that is searched where it lies."""
