-- create_operation: begins an operation whose ids were stored with operation_ids. ARGV[2...]:
-- operation, number of ids, how long ended ones are kept in ms, then names and values of its fields
-- (opaque, but `scope`: of the caller). Ended operations that are old, or too many, are forgotten.
-- Refused: other ids ('STATE'); too many of that scope are running ('REFUSED').
-- Answers: 'OK'.

local id, total = ARGV[2], tonumber(ARGV[3])
if operation_state(id) then
    return { 'OK' } -- again
end
of_type(OPERATIONS, 'zset')
if redis.call('LLEN', operation_ids_key(id)) ~= total then
    return { 'STATE' }
end
local scope = ''
for i = 5, #ARGV - 1, 2 do
    scope = ARGV[i] == 'scope' and ARGV[i + 1] or scope
end
local running = trim_operations(tonumber(ARGV[4]))[scope] or 0
if running >= (scope == '' and OPERATIONS_RUNNING_MAX or OPERATIONS_RUNNING_MAX / 4) then
    forget_operation(id)
    return { 'REFUSED' }
end
local key = operation_key(id)
redis.call('ZADD', OPERATIONS, NOW_MS, id)
redis.call('HSET', key, 'state', 'running', 'total', total, 'position', 0, 'done', 0, 'skipped', 0,
    'failed', 0, 'deferred', 0, 'started', NOW_MS, 'ended', 0, unpack(ARGV, 5))
if total == 0 then
    end_operation(id, 'done')
end
wake()
return { 'OK' }
