-- operation_batch: the next ids of an operation, and all that is known of them; changes nothing.
-- ARGV[2...]: operation, maximum number.
-- Refused: it does not run ('STATE').
-- Answers: 'OK', position, the fields of each; only the id of one that is unknown.

local id = ARGV[2]
if operation_state(id) ~= 'running' then
    return { 'STATE' }
end
local position = operation_number(id, 'position')
local rows, bytes = {}, 0
local ids = redis.call('LRANGE', operation_ids_key(id), position,
    position + math.min(tonumber(ARGV[3]), BATCH_MAX) - 1)
for _, client in ipairs(ids) do
    local used = redis.call('HGET', USE, client)
    local owner = used and owner_of(client)
    local config = owner and used or redis.call('HGET', NO, client) or used
    bytes = bytes + (config and #config or 0)
    if #rows > 0 and bytes > 1048576 then
        break -- configurations are long: fewer in one step
    end
    rows[#rows + 1] = config and describe(client, config, owner or nil) or { client }
end
return { 'OK', position, rows }
