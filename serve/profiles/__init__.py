"""The stores of profiles: the HTTP process writes (`serve.web.profiles`), workers read (`serve.worker.profiles`)."""
