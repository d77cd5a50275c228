-- operation_ids: appends ids to the list of an operation that does not exist yet. ARGV[2...]:
-- operation, number of ids before these, ids.
-- Refused: the list has another length.
-- Answers: 'OK' | 'STATE'.

local id, before = ARGV[2], tonumber(ARGV[3])
local count = #ARGV - 3
if count > BATCH_MAX then
    return redis.error_reply('ERR too many ids')
end
of_type(OPERATIONS, 'zset')
local len = redis.call('LLEN', operation_ids_key(id))
if len == before + count then
    return { 'OK' } -- again
end
if len ~= before then
    return { 'STATE' }
end
redis.call('ZADD', OPERATIONS, NOW_MS, id)
redis.call('RPUSH', operation_ids_key(id), unpack(ARGV, 4))
return { 'OK' }
