"""The distribution spec: its types (model), how text becomes them (load), and where each value stands (marks)."""
