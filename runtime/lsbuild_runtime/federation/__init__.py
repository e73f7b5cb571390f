"""Models that stand in for each other: who is asked, when somebody else is, and what each may cost."""
