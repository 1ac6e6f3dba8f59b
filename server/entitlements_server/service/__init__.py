"""The gRPC service: translates messages to commands and outcomes to messages. It has no rules.

`servicer.py` has the eleven RPCs, `messages.py` the translation of values, `status.py` the one
table from errors to codes, `handlers.py` what guards every call.
"""
