-- Steps that several transitions of clients and nodes use.

-- Removes ids from a node's list. LREM scans the whole list each time, so many ids are filtered out
-- in one pass.
local function unbind(node, ids)
    local list = bind_key(node)
    if #ids <= 20 then
        for _, id in ipairs(ids) do
            redis.call('LREM', list, 0, id)
        end
        return
    end
    local removed, chunk = {}, {}
    for _, id in ipairs(ids) do
        removed[id] = true
    end
    local all = redis.call('LRANGE', list, 0, -1)
    redis.call('DEL', list)
    for i, id in ipairs(all) do
        if not removed[id] then
            chunk[#chunk + 1] = id
        end
        if #chunk == 1000 or (i == #all and #chunk > 0) then
            redis.call('RPUSH', list, unpack(chunk))
            chunk = {}
        end
    end
end

local function set_node(node)
    redis.call('HSET', REGISTER, node.name, cjson.encode(node))
end

local function set_owner(id, owner)
    redis.call('HSET', OWNER, id, cjson.encode({
        node = owner.node,
        incarnation = owner.incarnation,
        epoch = string.format('%.0f', owner.epoch),
        version = owner.version,
        since = owner.since,
    }))
end

local function remove_identity(id)
    for one in identities_of(meta_of(id).identity) do
        if redis.call('HGET', IDENTITY, one) == id then
            redis.call('HDEL', IDENTITY, one)
        end
    end
end

-- meta.identity '': unknown. meta.was: the previous version; meta.epoch: the last one before it
-- waited. Does not update the index of identities; set_meta does.
local function write_meta(id, meta)
    local several = meta.identity:find('\n', 1, true) ~= nil
    redis.call('HSET', META, id, cjson.encode({
        version = meta.version,
        was = meta.was ~= 0 and meta.was or nil,
        epoch = meta.epoch ~= 0 and string.format('%.0f', meta.epoch) or nil,
        identity = several and '' or meta.identity,
        identities = several and meta.identity or nil,
    }))
end

local function set_meta(id, meta)
    remove_identity(id)
    for one in identities_of(meta.identity) do
        redis.call('HSET', IDENTITY, one, id)
    end
    write_meta(id, meta)
end

-- A new configuration: the next version.
local function renew_meta(id, meta, version, identity)
    meta.was, meta.version, meta.identity = meta.version, version, identity
    set_meta(id, meta)
end

local function set_attempt(id, attempt)
    redis.call('HSET', ATTEMPT, id, cjson.encode(attempt))
end

-- Delays a waiting id; the caller stores the attempt.
local function delay_retry(id, attempt, delay_ms)
    attempt.delay = math.min(delay_ms, DELAY_MS_MAX)
    if delay_ms > 0 then
        redis.call('ZADD', RETRY, NOW_MS + attempt.delay, id)
    else
        redis.call('ZREM', RETRY, id)
    end
end

-- Greater than any epoch before, even if the counter is lost. Call write_epoch() after the last one.
local newest_epoch
local function next_epoch(least)
    newest_epoch = newest_epoch or to_integer(redis.call('GET', EPOCH)) or 0
    newest_epoch = math.max(newest_epoch + 1, NOW_US, least)
    return newest_epoch
end

local function write_epoch()
    redis.call('SET', EPOCH, string.format('%.0f', newest_epoch))
end

-- use -> no; the caller updates the list. If somebody wrote a configuration by hand over an owned
-- id, it is in `no` already. It is the newer one, and its identity is unknown. owner nil: no valid
-- record.
local function to_waiting(id, config, owner)
    redis.call('HDEL', USE, id)
    redis.call('HDEL', OWNER, id)
    local meta = meta_of(id)
    if owner then
        note_lost(id, owner)
        meta.epoch = math.max(meta.epoch, owner.epoch)
    end
    local written = redis.call('HGET', NO, id)
    if not written then
        redis.call('HSET', NO, id, config)
    end
    if written and written ~= config then
        renew_meta(id, meta, version_after(meta.version), '')
    elseif owner then
        write_meta(id, meta)
    end
end

local function remove_tombstone(id)
    if redis.call('ZREM', TOMBSTONES, id) == 1 then
        redis.call('HDEL', BURIED, id)
    end
end

-- no -> use. Returns the owner record.
local function to_owned(id, config, owner)
    redis.call('HSET', USE, id, config)
    redis.call('HDEL', NO, id)
    redis.call('ZREM', RETRY, id)
    remove_tombstone(id)
    redis.call('RPUSH', bind_key(owner.node), id)
    set_owner(id, owner)
    note_gained(id, owner)
    return owner
end

-- The same owner with another version or epoch.
local function update_owner(id, owner, change)
    note_lost(id, owner)
    for field, value in pairs(change) do
        owner[field] = value
    end
    set_owner(id, owner)
    note_gained(id, owner)
end

-- Removes up to a batch of ids from the list of a dead node. Its own ids, and ids without an owner,
-- start to wait. Ids of other owners only leave the list. Returns how many ids started to wait.
local function take_ids_from(node)
    local ids = redis.call('LRANGE', bind_key(node), 0, BATCH_MAX - 1)
    local moved = 0
    for _, id in ipairs(ids) do
        local config = redis.call('HGET', USE, id)
        local owner = config and owner_of(id)
        note_change(node, id)
        if config and (not owner or owner.node == node) then
            to_waiting(id, config, owner)
            moved = moved + 1
        end
    end
    if #ids > 0 then
        redis.call('LTRIM', bind_key(node), #ids, -1)
        commit_changes()
    end
    if moved > 0 then
        wake()
    end
    return moved
end

local function remove_node(node)
    redis.call('HDEL', REGISTER, node)
    redis.pcall('HDEL', SETTINGS, node)
    redis.call('DEL', bind_key(node), size_key(node), rev_key(node), heartbeat_key(node),
        set_key(node), changed_key(node), facts_key(node))
end

-- Remembers for an hour that a node ended without leaving, and how many clients it had.
local function remember_vanished(node)
    local NODES_MAX = 200
    local all = redis.call('HGETALL', of_type(LEVELLING.VANISHED, 'hash'))
    for i = 1, #all, 2 do
        local at = to_integer(string.match(all[i + 1], '^%d+')) or 0
        if NOW_MS - at > LEVELLING.VANISHED_MS or #all > NODES_MAX * 2 then
            redis.call('HDEL', LEVELLING.VANISHED, all[i])
        end
    end
    local clients = redis.pcall('LLEN', bind_key(node))
    redis.call('HSET', LEVELLING.VANISHED, node,
        string.format('%.0f %.0f', NOW_MS, type(clients) == 'number' and clients or 0))
end

-- Rejects its heartbeats even after its entry has left the register.
local function remember_fenced(incarnation)
    redis.call('ZREMRANGEBYSCORE', FENCED, '-inf', NOW_MS - FENCED_MS)
    if incarnation ~= '' then
        redis.call('ZADD', FENCED, NOW_MS, incarnation)
    end
end

-- Also used in heartbeats, which must not fail if somebody changed a key by hand.
local function is_fenced(incarnation)
    return type(redis.pcall('ZSCORE', FENCED, incarnation)) == 'string'
end

