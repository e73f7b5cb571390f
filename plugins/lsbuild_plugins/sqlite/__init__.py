"""`inline::sqlite`: responses and conversations in a file of the server's state folder."""
