"""`inline::python`: functions of a Python file as tools, run in a process of their own."""
