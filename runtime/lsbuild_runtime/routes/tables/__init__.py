"""The route table, a module for each group of APIs; each route is one line, and no handler of a rare one is imported."""
