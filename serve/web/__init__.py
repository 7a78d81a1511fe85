"""The HTTP process: routes and middlewares. They ask `serve.engine.dispatcher`; nothing here computes suggestions."""
