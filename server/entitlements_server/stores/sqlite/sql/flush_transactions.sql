-- ?1: rows of Transaction. One that is here already stays.
INSERT OR IGNORE INTO transactions
SELECT
    a.number, t.value ->> 1, t.value ->> 2, t.value ->> 3, t.value ->> 4, t.value ->> 5,
    t.value ->> 6, t.value ->> 7, t.value ->> 8, t.value ->> 9, t.value ->> 10, t.value ->> 11,
    t.value ->> 12, t.value ->> 13, t.value ->> 14
FROM json_each(?1) AS t
CROSS JOIN accounts AS a ON a.user_id = t.value ->> 0
