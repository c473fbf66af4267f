"""Builds the files of a release. scripts/release runs it."""
