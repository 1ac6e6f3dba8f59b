"""The gRPC service: translates messages to commands and outcomes to messages. It has no rules.

| module | what it is for |
|---|---|
| `dispatcher.py` | takes every call: who calls, may they, is there room; then runs it |
| `session.py` | one call, from its first header to its end |
| `reporter.py` | what is reported of a call when it ends |
| `route.py` | what a method is to the server |
| `routes.py` | which methods there are, who may call them, how their requests are read |
| `servicer.py` | the eleven RPCs |
| `translate.py`, `paging.py` | values as messages, and pages of a history |
| `auth.py`, `rate_limit.py` | who is calling, and how often |
| `admission.py` | whether there is room for a call |
| `errors.py` | why a call is not let in |
| `status.py` | from an error to the status that its caller gets |
| `health.py`, `reflection.py` | gRPC's own services |
"""
