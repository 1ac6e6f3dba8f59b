"""How calls reach the server and answers leave it: one seam, two implementations.

| module | what it is for |
|---|---|
| `interface.py` | the seam: what a call is, and what takes calls |
| `completion_queue.py` | the fast transport, and the only module that uses gRPC's private names |
| `threads.py` | the fallback, on gRPC's public server |
| `options.py`, `unsent.py`, `abuse.py` | limits: options of gRPC, unsent bytes, floods |
| `address.py` | where the server may listen |
| `tls.py` | certificates, replaced while serving |
| `opening.py` | which transport serves |
"""
