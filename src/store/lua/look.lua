-- look: one step of a scan over the register for beats that are missing; changes nothing.
-- ARGV[2]: cursor.
-- Answers: 'OK', next cursor, names that it met, and of each without its beat: name, incarnation, state.

local scan = redis.call('HSCAN', REGISTER, ARGV[2], 'COUNT', BATCH_MAX)
local names, keys = {}, {}
for i = 1, #scan[2], 2 do
    names[#names + 1] = scan[2][i]
    keys[#keys + 1] = beat_key(scan[2][i])
end
local found = #keys > 0 and redis.call('MGET', unpack(keys)) or {}
local missing = {}
for i, name in ipairs(names) do
    local node = node_of(name)
    if not found[i] or found[i] ~= node.incarnation or not beats(name, node) then
        missing[#missing + 1] = { name, node.incarnation, node.state }
    end
end
return { 'OK', scan[1], #names, missing }
