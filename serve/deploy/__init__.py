"""How the service is run in containers, and several of it behind nginx."""
