"""What LitServe lacks: the processes and their supervision, the queue of questions, and limits on connections.

Main process        supervisor
HTTP process        dispatcher, links, admission, liveness: from a question to its answer
                    http_server, client_presence, coalesced_writes: connections
several processes   frames, faults, readiness, memory_file
"""
