"""How calls reach the server: one interface, two implementations.

| module | contents |
|---|---|
| `interface.py` | what a transport and the API know of each other |
| `completion_queue.py` | the fast transport: the only module that uses private names of gRPC |
| `threads.py` | the fallback, on gRPC's public server |
| `options.py`, `unsent.py`, `abuse.py` | limits: gRPC's options, unsent bytes, floods |
| `address.py` | which addresses the server may listen on |
| `tls.py` | certificates, replaced while serving |
| `factory.py` | chooses the transport |
"""
