"""`remote::openai`: any server that speaks OpenAI's API."""
