"""`python -m tests.torture`: breaks the service in every way that is promised not to break it, and says what came of it."""
