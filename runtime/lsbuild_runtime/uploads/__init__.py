"""Uploads and their way into stores: kept in one SQLite file of the state folder; nothing here knows HTTP routes."""

FILE_NAME = "uploads.sqlite"
