"""What serve halves share that keep things in PostgreSQL: its address, connections to it, and what its errors mean.

It needs psycopg, which a plugin that uses it ships; it knows no table.
"""
