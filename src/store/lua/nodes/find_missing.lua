-- find_missing: one step of a scan over the register for missing heartbeats; changes nothing.
-- ARGV[2]: cursor.
-- Answers: 'OK', next cursor, number of nodes in this step, and of each node without its heartbeat:
-- name, incarnation, state.

local scan = redis.call('HSCAN', REGISTER, ARGV[2], 'COUNT', BATCH_MAX)
local names, keys = {}, {}
for i = 1, #scan[2], 2 do
    names[#names + 1] = scan[2][i]
    keys[#keys + 1] = heartbeat_key(scan[2][i])
end
local found = #keys > 0 and redis.call('MGET', unpack(keys)) or {}
local missing = {}

-- The common case without decoding the entry, which is expensive. Entries that set_node() has not
-- written, and heartbeats that live too long, are decoded.
local function is_live(heartbeat, entry, key)
    local _, at = entry:find('"ttl":', 1, true)
    local ttl_ms = heartbeat and at and entry:find('"incarnation":"' .. heartbeat .. '"', 1, true) and
        tonumber(entry:match('^%d+', at + 1))
    return ttl_ms and redis.call('PTTL', key) <= ttl_ms + CLOCK_SLACK_MS
end

for i, name in ipairs(names) do
    if not is_live(found[i], scan[2][2 * i], keys[i]) then
        local node = node_of(name)
        if not found[i] or found[i] ~= node.incarnation or not has_heartbeat(name, node) then
            missing[#missing + 1] = { name, node.incarnation, node.state }
        end
    end
end
return { 'OK', scan[1], #names, missing }
