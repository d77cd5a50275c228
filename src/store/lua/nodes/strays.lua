-- strays: one step of a scan for lists of nodes that are neither registered nor alive (left by Go
-- IoT). Removes up to a batch of ids that do not belong to the node: ids of another node, and ids
-- that are not owned. An id in `use` without another owner stays until `orphans` has moved it.
-- ARGV[2]: cursor.
-- Answers: 'OK', next cursor, and of each shortened list its node and how many ids left it.

local SCAN_KEYS = 1000
local HEAD = bind_key('')
check()

local function remove_foreign_ids(name, ids_max)
    local list = bind_key(name)
    local ids = redis.call('LRANGE', list, 0, ids_max - 1)
    local kept = {}
    for _, id in ipairs(ids) do
        local owner = owner_of(id)
        if redis.call('HEXISTS', USE, id) == 1 and (not owner or owner.node == name) then
            kept[#kept + 1] = id
        end
    end
    if #kept == #ids then
        return 0
    end
    redis.call('LTRIM', list, #ids, -1)
    if #kept > 0 then
        redis.call('RPUSH', list, unpack(kept))
    end
    if redis.call('LLEN', list) == 0 then
        redis.call('DEL', size_key(name), rev_key(name), set_key(name), changed_key(name))
    else
        resize(name)
    end
    return #ids - #kept
end

local function is_stray(name)
    local ids = redis.pcall('LLEN', bind_key(name))
    return type(ids) == 'number' and ids > 0 and redis.call('HEXISTS', REGISTER, name) == 0 and
        not heartbeat_of(name)
end

-- A user without permission to scan (docs/redis.md) finds none.
local pattern = HEAD:gsub('[%[%]*?\\^]', '\\%0') .. '*'
local scan = redis.pcall('SCAN', ARGV[2], 'MATCH', pattern, 'COUNT', SCAN_KEYS)
if scan.err then
    return { 'OK', '0', {} }
end
local rows, room = {}, BATCH_MAX
for _, key in ipairs(scan[2]) do
    local name = key:sub(#HEAD + 1)
    if room > 0 and is_stray(name) then
        local removed = remove_foreign_ids(name, room)
        room = room - math.max(removed, BATCH_MAX / 10)
        if removed > 0 then
            rows[#rows + 1] = { name, removed }
        end
    end
end
return { 'OK', scan[1], rows }
