"""What targets share: archives without times, native files looked at, packages and images, booting what was packed."""
