-- ?1: accounts for which nothing is due any longer.
DELETE FROM due_times WHERE account IN (SELECT value FROM json_each(?1))
