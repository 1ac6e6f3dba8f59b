"""The heart: pure values and rules. No I/O, no clock, no gRPC, no asyncio.

It imports nothing of the server but the base of errors.

Where to find a rule: `decide.py` decides every write; `catalogue.py` says who has access;
`validation.py` and `limits.py` say what is well formed; `state.py` and `fold.py` say what a transaction
does to an account, a key and a charge; `settlement.py` what lapses by itself; `invariants.py` what
must hold of every history; `encoding.py` and `chain.py` how a record is stored and sealed; `errors.py` lists everything that a request can be rejected for.
"""
