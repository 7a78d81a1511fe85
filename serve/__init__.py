"""Offers a bundle over HTTP: `nextword serve` is the service, `serve.client` talks to it.

Nothing is imported here, so that the client needs neither torch nor litserve.
"""
