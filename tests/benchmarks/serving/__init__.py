"""`python -m tests.benchmarks.serving`: how fast the service is, beside other ways to answer the same question.

Needs Linux and wrk; no other part of the service needs this one.
"""
