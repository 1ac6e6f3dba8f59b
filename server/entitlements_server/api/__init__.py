"""The gRPC service: translates messages to commands, and outcomes to messages. It has no rules.

| module | contents |
|---|---|
| `dispatcher.py` | accepts every call: authentication, roles, admission |
| `session.py` | one call, from its first header to its end |
| `reporter.py` | metrics, trace and log line of a call that ends |
| `route.py` | what the dispatcher knows about a method |
| `routes.py` | the methods of the service and the role that each requires |
| `servicer.py` | the eleven RPCs |
| `translate.py`, `paging.py` | values as messages; pages of a history |
| `auth.py`, `rate_limit.py` | who may call, and how often |
| `admission.py` | limits on calls at a time |
| `errors.py` | why a call is not admitted |
| `status.py` | from an error to the status that its caller gets |
| `health.py`, `reflection.py` | gRPC's own services |
"""
