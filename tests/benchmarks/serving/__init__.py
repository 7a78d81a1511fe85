"""The speed of the service, beside other ways to answer the same question. Needs Linux and wrk."""
