-- Stores a decision for one user, if the account is still the one it was decided on.
-- It has no rules: it compares, and writes its arguments.
--
-- Redis does not undo what a script has written before a command in it fails. So whatever can fail is tried
-- before the first write: the type of each key, the length of the history, and the rights of the user. The
-- account is written last: without it, the rest has no effect.
--
-- KEYS  1 accounts   2 users   3 bound keys   4 refunds   5 lease   6 due   7 changes
--       8... chunks of history
-- ARGV  1 user id
--       2 the account it was decided on, '' for none       3 the account after it
--       4 lease id of this write                           5 '1' to take the lease
--       6 due time of the account, 0 for none, '' if unchanged
--       7 entry for the change feed
--       8 number of transactions that the first chunk has; the others have none
--       then lists, each after its length:
--         idempotency key, sequence it is assumed to be bound to or 0 for none, ...
--         idempotency key, sequence, ... to bind
--         sequence of a charge, its refunds, ...
--         for each of KEYS[8...]: transactions to append
--
-- Returns 1: stored. {account, 1 or 0}: not stored, because the account has changed or a key is bound
-- to something else (then 1). 2: not stored, because another write has the lease.
-- Errors: DAMAGED <key> <problem>, and those of Redis. Nothing was stored.

local failure

-- Execute a command that reads. This also shows that its key has the right type.
local function read(command, key, ...)
    local reply = redis.pcall(command, key, ...)
    if type(reply) == 'table' and reply.err then
        local is_type = string.sub(reply.err, 1, 9) == 'WRONGTYPE'
        failure = failure or redis.error_reply(is_type and 'DAMAGED ' .. key .. ' it has another type' or reply.err)
        return nil
    end
    return reply
end

local writes = {}
local function write(...)
    writes[#writes + 1] = {...}
end

local lease = read('GET', KEYS[5])
local account = read('HGET', KEYS[1], ARGV[1]) or ''
if failure then
    return failure
end
if lease and lease ~= ARGV[4] then
    return 2
end

local at = 9
local function list()
    local first = at + 1
    at = first + tonumber(ARGV[at])
    return first, at - 1
end

local first, last = list()
local otherwise = 0
if first <= last then
    local names = {}
    for index = first, last, 2 do
        names[#names + 1] = ARGV[index]
    end
    for index, sequence in ipairs(read('HMGET', KEYS[3], unpack(names)) or {}) do
        if (sequence or '0') ~= ARGV[first + 2 * index - 1] then
            otherwise = 1
        end
    end
end
if failure then
    return failure
end
if account ~= ARGV[2] or otherwise == 1 then
    if ARGV[5] == '1' then
        redis.call('SET', KEYS[5], ARGV[4], 'PX', 500)
    end
    return {account, otherwise}
end

if account == '' then
    read('ZSCORE', KEYS[2], ARGV[1])
    write('ZADD', KEYS[2], 0, ARGV[1])
end
if ARGV[6] ~= '' then
    read('ZSCORE', KEYS[6], ARGV[1])
    if ARGV[6] == '0' then
        write('ZREM', KEYS[6], ARGV[1])
    else
        write('ZADD', KEYS[6], ARGV[6], ARGV[1])
    end
end
read('LLEN', KEYS[7])
write('RPUSH', KEYS[7], ARGV[7])
for index = 3, 4 do
    first, last = list()
    if first <= last then
        read('HLEN', KEYS[index])
        write('HSET', KEYS[index], unpack(ARGV, first, last))
    end
end
local length = tonumber(ARGV[8])
for chunk = 8, #KEYS do
    first, last = list()
    local found = read('LLEN', KEYS[chunk])
    if found and found ~= length then
        failure = failure or redis.error_reply(
            'DAMAGED ' .. KEYS[chunk] .. ' it has ' .. found .. ' transactions instead of ' .. length
        )
    end
    length = 0
    write('RPUSH', KEYS[chunk], unpack(ARGV, first, last))
end
if lease then
    write('DEL', KEYS[5])
end
write('HSET', KEYS[1], ARGV[1], ARGV[3])
if failure then
    return failure
end
-- Redis 7 and newer: a right that is missing is noticed here.
if redis.acl_check_cmd then
    for _, command in ipairs(writes) do
        if not redis.acl_check_cmd(unpack(command, 1, math.min(#command, 4))) then
            return redis.error_reply('NOPERM this user has no right to ' .. command[1] .. ' ' .. command[2])
        end
    end
end

for _, command in ipairs(writes) do
    redis.call(unpack(command))
end
return 1
