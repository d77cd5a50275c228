-- orphans: ids in `use` that nobody can run -> waiting, one step of a scan. ARGV[2]: cursor.
-- Nobody can run what has no owner record, or one whose node is not registered under that
-- incarnation. While a node that is not ours beats, what has no owner record is left alone: it may
-- be that node's.
-- Answers: 'OK', how many moved, next cursor, complete (1: nothing owned is known to lack an
-- owner record).

check()

local function stranger_beats()
    local entries = redis.call('HSCAN', REGISTER, 0, 'COUNT', BATCH_MAX)[2]
    for i = 1, math.min(#entries, BATCH_MAX * 2), 2 do
        local name = entries[i]
        if node_of(name).incarnation == '' and beat_of(name) then
            return true
        end
    end
    return false
end

local incarnations = {}
local function registered(owner)
    if incarnations[owner.node] == nil then
        local node = node_of(owner.node)
        incarnations[owner.node] = node and node.incarnation or ''
    end
    return incarnations[owner.node] == owner.incarnation
end

-- The record that told whose list an id is on may be gone, or wrong: it leaves those of all nodes,
-- each of which looks again, for it may run what is no longer its own.
local NODES_MAX = 64
local function unbind_everywhere(ids)
    local entries = redis.call('HSCAN', REGISTER, 0, 'COUNT', NODES_MAX)[2]
    for i = 1, math.min(#entries, NODES_MAX * 2), 2 do
        local name = entries[i]
        if pcall(unbind, name, ids) then
            settle_anew(name)
        end
    end
end

local scan = redis.call('HSCAN', USE, ARGV[2], 'COUNT', BATCH_MAX / 2)
local strangers
local orphans = {}
for i = 1, #scan[2], 2 do
    local id, config = scan[2][i], scan[2][i + 1]
    local owner = owner_of(id)
    if not owner and strangers == nil then
        strangers = stranger_beats()
    end
    if (owner and not registered(owner)) or (not owner and not strangers) then
        to_waiting(id, config, owner)
        local unbound = owner and redis.pcall('LREM', bind_key(owner.node), 0, id)
        if type(unbound) == 'number' and unbound > 0 then
            touch(owner.node, id)
        end
        orphans[#orphans + 1] = id
    end
end
if #orphans > 0 then
    unbind_everywhere(orphans)
    settle() -- the lists of those who are not registered
    wake()
end

-- Processes that have written nothing for a day; any cursor is as good as another.
local SEQUENCE_MS = 86400000
local processes = redis.call('HSCAN', SEQUENCE, NOW_US % 1048576, 'COUNT', 20)[2]
for i = 1, #processes, 2 do
    local at_ms = whole(string.match(processes[i + 1], ' (%d+)$')) or 0
    if NOW_MS - at_ms > SEQUENCE_MS then
        redis.call('HDEL', SEQUENCE, processes[i])
    end
end
local complete = redis.call('HLEN', USE) <= redis.call('HLEN', OWNER)
return { 'OK', #orphans, scan[1], complete and 1 or 0 }
