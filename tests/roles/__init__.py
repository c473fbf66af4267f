"""Tests of the roles; packages, because each role's tests carry the names of the modules that they test."""
