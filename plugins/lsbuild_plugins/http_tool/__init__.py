"""`inline::http`: one request to a web API as a tool."""
