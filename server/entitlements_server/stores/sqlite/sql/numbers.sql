-- ?1: ids of users who have an account. One row: a JSON array of the numbers of their accounts.
SELECT json_group_array(a.number)
FROM json_each(?1) AS named
CROSS JOIN accounts AS a ON a.user_id = named.value
