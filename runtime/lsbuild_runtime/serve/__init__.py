"""Adapters between a server and App.handle; no route and no provider is known here."""
