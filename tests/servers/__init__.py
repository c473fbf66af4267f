"""Peers that only the tests need: a product API, a foreign auth service, a proxy that counts round trips."""
