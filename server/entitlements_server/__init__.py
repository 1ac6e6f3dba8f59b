"""The entitlement service. Tokens buy depth of analysis. docs/architecture.md has the picture.

| module | contents |
|---|---|
| `ledger/` | the rules: pure values, no I/O |
| `stores/` | where transactions are kept |
| `engine/` | commits together what arrives together, by a clock that does not jump |
| `api/` | the gRPC service: messages to commands, outcomes to messages |
| `transport/` | how calls reach the API |
| `errors.py` | the tree of what a caller can be answered with instead of a response |
| `config/` | settings, callers and the catalogue file |
| `instrumentation/` | metrics, traces and logs |
| `tuning/` | how a server uses the machine: garbage collection, processors |
| `app.py` | the wiring: from settings to a server that serves |
| `workers/` | several such servers on one address, and their supervisor |
| `maintenance/` | verify, export, statistics and copies of a ledger |
| `cli/` | the command line `entitlements-server` |
"""
