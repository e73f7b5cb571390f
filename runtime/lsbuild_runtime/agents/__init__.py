"""Agents: the loop around a model, what a run may do, and the runs of an agent as a model and as a tool."""
