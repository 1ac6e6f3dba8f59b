-- Stores a decision for one user, if the account is still the one it was decided on.
-- It has no rules: it compares, and writes its arguments.
--
-- KEYS  1 accounts   2 users   3 bound keys   4 refunds   5 lease   6 due   7 changes
--       8... chunks of history
-- ARGV  1 user id
--       2 the account it was decided on, '' for none       3 the account after it
--       4 lease id of this write                           5 '1' to take the lease
--       6 due time of the account, 0 for none, '' if unchanged
--       7 entry for the change feed
--       then lists, each after its length:
--         idempotency key, sequence it is assumed to be bound to or 0 for none, ...
--         idempotency key, sequence, ... to bind
--         sequence of a charge, its refunds, ...
--         for each of KEYS[8...]: transactions to append
--
-- Returns 1: stored. {account, 1 or 0}: not stored, because the account has changed or a key is bound
-- to something else (then 1). 2: not stored, because another write has the lease.

local lease = redis.call('GET', KEYS[5])
if lease and lease ~= ARGV[4] then
    return 2
end

local at = 8
local function list()
    local first = at + 1
    at = first + tonumber(ARGV[at])
    return first, at - 1
end

local account = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local first, last = list()
local otherwise = 0
if first <= last then
    local names = {}
    for index = first, last, 2 do
        names[#names + 1] = ARGV[index]
    end
    for index, sequence in ipairs(redis.call('HMGET', KEYS[3], unpack(names))) do
        if (sequence or '0') ~= ARGV[first + 2 * index - 1] then
            otherwise = 1
        end
    end
end
if account ~= ARGV[2] or otherwise == 1 then
    if ARGV[5] == '1' then
        redis.call('SET', KEYS[5], ARGV[4], 'PX', 500)
    end
    return {account, otherwise}
end

if account == '' then
    redis.call('ZADD', KEYS[2], 0, ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[6] == '0' then
    redis.call('ZREM', KEYS[6], ARGV[1])
elseif ARGV[6] ~= '' then
    redis.call('ZADD', KEYS[6], ARGV[6], ARGV[1])
end
redis.call('RPUSH', KEYS[7], ARGV[7])
first, last = list()
if first <= last then
    redis.call('HSET', KEYS[3], unpack(ARGV, first, last))
end
first, last = list()
if first <= last then
    redis.call('HSET', KEYS[4], unpack(ARGV, first, last))
end
for chunk = 8, #KEYS do
    first, last = list()
    redis.call('RPUSH', KEYS[chunk], unpack(ARGV, first, last))
end
if lease then
    redis.call('DEL', KEYS[5])
end
return 1
