"""`inline::evals`: questions asked at build to the very services that will ship."""
