"""A worker process: `loop` receives questions, `lit_api` groups them, and each kind has a module that answers."""
