"""`remote::postgres`: responses and conversations in a database that several servers share."""
