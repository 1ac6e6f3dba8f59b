-- Due times that are not those of the accounts: member 103.
SELECT a.user_id, a.transaction_count, 'its due time is not noted as the account has it'
FROM accounts AS a
LEFT JOIN due_times AS d ON d.account = a.number
WHERE coalesce(a.stored ->> '103', 0) != coalesce(d.due_us, 0)
