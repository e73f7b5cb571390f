"""Google's form of a chat: its interactions become ports.Chat, deltas become its steps and events."""
