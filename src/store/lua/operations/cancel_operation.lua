-- cancel_operation: ends a running operation; what it has changed stays. ARGV[2...]: operation, who.
-- Answers: 'OK' (also if it was cancelled before) | 'NOT_FOUND' | 'STATE': it is done.

local id = ARGV[2]
local state = operation_state(id)
if not state then
    return { 'NOT_FOUND' }
end
if state == 'running' then
    redis.call('HSET', operation_key(id), 'cancelled_by', ARGV[3])
    end_operation(id, 'cancelled')
end
return { state == 'done' and 'STATE' or 'OK' }
