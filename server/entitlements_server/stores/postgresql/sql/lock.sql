-- Takes the turn of a user: other writes for the user wait until this transaction ends.
--
-- It must be the first statement of its transaction, and of one user: what is read after it must be
-- older than the transaction's id, or the change feed would show a sequence before the one before it.
SELECT FROM entitlements.accounts WHERE user_id = $1::text FOR UPDATE
