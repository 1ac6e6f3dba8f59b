-- A ledger without the identity that checkpoints and cursors name, or with one that cannot be.
SELECT NULL, 0, 'it has no identity that a ledger can have'
WHERE (SELECT count(*) FROM identity WHERE length(id) = 32 AND generation > 0) != 1
