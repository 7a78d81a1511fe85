"""The HTTP service (`nextword serve`) and its client (`serve.client`).

This file imports nothing, so the client needs neither torch nor litserve.
"""
