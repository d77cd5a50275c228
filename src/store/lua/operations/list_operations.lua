-- list_operations: the operations, the newest first; changes nothing. ARGV[2]: an id, 'running' or ''
-- (all).
-- Answers: 'OK', Redis time in ms, and id and fields of each.

local wanted = ARGV[2]
local ids = { wanted }
if wanted == '' or wanted == 'running' then
    ids = redis.call('ZRANGEBYSCORE', OPERATIONS, '-inf', '+inf')
end
local rows = {}
for i = #ids, 1, -1 do
    local state = operation_state(ids[i])
    if state and (wanted ~= 'running' or state == 'running') then
        rows[#rows + 1] = { ids[i], redis.call('HGETALL', operation_key(ids[i])) }
    end
end
return { 'OK', NOW_MS, rows }
