"""Pure values and rules. No I/O, no clock, no gRPC, no asyncio.

It imports nothing of the server but the base of errors.

| module | contents |
|---|---|
| `commands.py` | the writes that can be requested |
| `validation.py`, `limits.py` | which arguments are well formed |
| `catalogue.py` | features, prices, and who has access |
| `decide.py` | the rules: one function decides every write |
| `replay.py`, `windows.py` | when an earlier transaction is the answer: by key, by access window |
| `grants.py` | tokens that expire: which are taken, and where others go |
| `terms.py`, `outcomes.py` | what a decision depends on, and what can come of it |
| `values.py` | accounts and transactions: the fields that are stored |
| `state.py`, `fold.py` | what a transaction does to an account, a key and a charge |
| `settlement.py` | what lapses as time passes |
| `invariants.py` | what must be true of every history |
| `encoding.py`, `chain.py` | how a record is stored and hashed |
| `errors.py` | every reason for which a request is rejected |
"""
