"""Denied, topped up, charged, retried under the same key, and failed work given back.

ReadSet a service on a ledger that ada has not used yet: `make run` in another terminal.
"""

from contextlib import suppress
from functools import partial

from entitlements import AccessDeniedError, EntitlementClient

client = EntitlementClient("127.0.0.1:50051")
full = partial(client.require_tokens, user_id="ada", feature="full_distribution")
try:
    full()
except AccessDeniedError as denied:
    print("denied:", denied)
print("topped up:", client.top_up("ada", 10).balance_after)
print("charged:", full(idempotency_key="final-2026").balance_after)
print("retried:", full(idempotency_key="final-2026").balance_after)
with suppress(ArithmeticError), full() as tx:
    print("charged again:", tx.balance_after)
    raise ArithmeticError("The analysis fails.")
print("given back:", client.get_account("ada").balance)
