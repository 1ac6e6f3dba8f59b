"""Denied, topped up, charged, retried with the same key, and refunded after a failure.

Needs a running service (`make run`) whose ledger has no user grace yet.
"""

from contextlib import suppress
from functools import partial

from entitlements import AccessDeniedError, EntitlementClient

client = EntitlementClient("127.0.0.1:50051")
full = partial(client.require_tokens, user_id="grace", feature="full_distribution")
try:
    full()
except AccessDeniedError as denied:
    print("denied:", denied)
print("topped up:", client.top_up("grace", 10).balance_after)
print("charged:", full(idempotency_key="final-2026").balance_after)
print("retried:", full(idempotency_key="final-2026").balance_after)
with suppress(ArithmeticError), full() as tx:
    print("charged again:", tx.balance_after)
    raise ArithmeticError("The analysis fails.")
print("refunded:", client.get_account("grace").balance)
