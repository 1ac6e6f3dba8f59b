SELECT id, generation, major, minor, epoch FROM entitlements.ledger
