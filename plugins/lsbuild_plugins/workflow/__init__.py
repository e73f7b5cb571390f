"""`inline::workflow`: steps that are done one after the other, kept as they end."""
