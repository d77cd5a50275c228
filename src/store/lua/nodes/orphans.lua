-- orphans: owned ids that no node can run -> waiting, one step of a scan. ARGV[2]: cursor.
-- An orphan has no owner record, or its node is not registered under that incarnation. While a node
-- of another program has a heartbeat, ids without an owner record are skipped: they may be its own.
-- Answers: 'OK', how many moved, next cursor, complete (1: no owned id is known to lack an owner
-- record).

check()

local function foreign_node_is_alive()
    local entries = redis.call('HSCAN', REGISTER, 0, 'COUNT', BATCH_MAX)[2]
    for i = 1, math.min(#entries, BATCH_MAX * 2), 2 do
        local name = entries[i]
        if node_of(name).incarnation == '' and heartbeat_of(name) then
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

-- The record of the list that holds an id may be missing or wrong. The id is removed from the lists
-- of all nodes. Each node then compares its list, because it may run an id that it no longer owns.
local NODES_MAX = 64
local function unbind_everywhere(ids)
    local entries = redis.call('HSCAN', REGISTER, 0, 'COUNT', NODES_MAX)[2]
    for i = 1, math.min(#entries, NODES_MAX * 2), 2 do
        local name = entries[i]
        if pcall(unbind, name, ids) then
            request_full_comparison(name)
        end
    end
end

local scan = redis.call('HSCAN', USE, ARGV[2], 'COUNT', BATCH_MAX / 2)
local foreign_alive
local orphans = {}
for i = 1, #scan[2], 2 do
    local id, config = scan[2][i], scan[2][i + 1]
    local owner = owner_of(id)
    if not owner and foreign_alive == nil then
        foreign_alive = foreign_node_is_alive()
    end
    if (owner and not registered(owner)) or (not owner and not foreign_alive) then
        to_waiting(id, config, owner)
        local unbound = owner and redis.pcall('LREM', bind_key(owner.node), 0, id)
        if type(unbound) == 'number' and unbound > 0 then
            note_change(owner.node, id)
        end
        orphans[#orphans + 1] = id
    end
end
if #orphans > 0 then
    unbind_everywhere(orphans)
    commit_changes() -- the lists of unregistered nodes
    wake()
end

-- Forgets processes that have not written for a day. The scan starts at an arbitrary cursor.
local SEQUENCE_MS = 86400000
local processes = redis.call('HSCAN', SEQUENCE, NOW_US % 1048576, 'COUNT', 20)[2]
for i = 1, #processes, 2 do
    local at_ms = to_integer(string.match(processes[i + 1], ' (%d+)$')) or 0
    if NOW_MS - at_ms > SEQUENCE_MS then
        redis.call('HDEL', SEQUENCE, processes[i])
    end
end
local complete = redis.call('HLEN', USE) <= redis.call('HLEN', OWNER)
return { 'OK', #orphans, scan[1], complete and 1 or 0 }
