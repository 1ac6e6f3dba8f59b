"""`serve --workers N`: several server processes on one address and one ledger, looked after by a supervisor.

The supervisor serves no calls. It reserves the address, starts the same command N times, passes signals on, and
starts a worker again when it has ended. The kernel gives each new connection to one of the workers.

| module | contents |
|---|---|
| `requirements.py` | which settings allow several workers |
| `reservation.py` | the address: free, and kept for the workers |
| `link.py` | the socket between the supervisor and a worker, both ends |
| `process.py` | one worker, as the supervisor sees it |
| `supervisor.py` | starts, replaces and stops the workers |
| `exposition.py` | one endpoint for the metrics of all |
"""
