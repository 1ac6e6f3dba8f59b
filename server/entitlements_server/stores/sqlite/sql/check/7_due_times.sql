-- Due times that differ from those of the accounts: member 103.
SELECT a.user_id, a.transaction_count, 'its due time differs from that of the account'
FROM accounts AS a
LEFT JOIN due_times AS d ON d.account = a.number
WHERE coalesce(a.stored ->> '103', 0) != coalesce(d.due_us, 0)
