"""The heart: pure values and rules. No I/O, no clock, no gRPC, no asyncio.

Where to find a rule: `decide.py` decides every write; `catalogue.py` says who has access;
`validation.py` and `limits.py` say what is well formed; `state.py` says what a transaction does to
an account, a key and a charge; `errors.py` lists everything that a request can be rejected for.
"""
