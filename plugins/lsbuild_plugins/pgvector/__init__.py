"""`remote::pgvector`: one PostgreSQL with pgvector holds the documents of a whole fleet; what is compiled in is its seed."""
