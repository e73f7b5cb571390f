"""Anthropic's form of a chat: its requests become ports.Chat, deltas become its messages and events."""
