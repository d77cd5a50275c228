-- Changes of a client's configuration, by a single request or by a step of an operation. After its
-- changes, a script calls finish_configurations(). record: the entry for the audit trail.

local unbound = {} -- node -> ids that were deleted
local somebody_waits = false

-- Replaces the configuration by a new version. A call that is repeated with the version that it has
-- replaced changes nothing but the identity, which a profile may have changed.
-- Returns 'OK', version, changed | 'NOT_FOUND' | 'VERSION' | 'EXISTS', the other id.
local function update_configuration(id, expected, config, identity, record, keep_ms)
    config = profile_mark.add(config)
    local waiting = redis.call('HGET', NO, id)
    local used = redis.call('HGET', USE, id)
    local current = waiting or used
    if not current then
        return 'NOT_FOUND'
    end
    local meta = meta_of(id)
    local before = meta.version
    local same = current == config and (expected == 0 or expected == before or expected == meta.was)
    if not same and expected ~= 0 and expected ~= before then
        return 'VERSION'
    end
    if same and identity == meta.identity then
        return 'OK', before, false
    end
    local other_id = identity_owner(identity, id)
    if other_id then
        return 'EXISTS', other_id
    end
    if same then
        meta.identity = identity
        set_meta(id, meta)
        return 'OK', before, false
    end
    local version = version_after(before)
    renew_meta(id, meta, version, identity)
    redis.call('ZREM', RETRY, id)
    local owner = used and owner_of(id)
    if owner then
        redis.call('HSET', USE, id, config)
        redis.call('HDEL', NO, id)
        update_owner(id, owner, { version = version })
    else
        redis.call('HSET', NO, id, config)
        redis.call('HDEL', USE, id)
        redis.call('HDEL', ATTEMPT, id)
        somebody_waits = true
    end
    quotas.count(id, quotas.of(config))
    audit(id, before, version, record, keep_ms)
    return 'OK', version, true
end

-- Gone, with a tombstone. Returns 'OK' | 'NOT_FOUND' | 'GONE' (absent, with a tombstone) | 'VERSION'.
local function delete_configuration(id, expected, record, keep_ms)
    local used = redis.call('HEXISTS', USE, id) == 1
    if not used and redis.call('HEXISTS', NO, id) == 0 then
        return tombstone_of(id) and 'GONE' or 'NOT_FOUND'
    end
    local meta = meta_of(id)
    if expected ~= 0 and expected ~= meta.version then
        return 'VERSION'
    end
    local owner = used and owner_of(id)
    if owner then
        redis.call('LLEN', bind_key(owner.node)) -- of a wrong type: fails here
    end
    local time_ms = NOW_MS + TOMBSTONE_MS
    redis.call('ZADD', TOMBSTONES, time_ms, id)
    -- Not less than any earlier epoch or version, even one that Redis has lost.
    local epoch = math.max(meta.epoch, owner and owner.epoch or 0, NOW_US)
    local version = math.max(meta.version, NOW_MS)
    redis.call('HSET', BURIED, id, string.format('%.0f %.0f %.0f', time_ms, version, epoch))
    remove_identity(id)
    for _, hash in ipairs({ NO, USE, OWNER, META, ATTEMPT, of_type(HISTORY, 'hash') }) do
        redis.call('HDEL', hash, id)
    end
    redis.call('ZREM', RETRY, id)
    if owner then
        note_lost(id, owner)
        unbound[owner.node] = unbound[owner.node] or {}
        table.insert(unbound[owner.node], id)
    end
    quotas.count(id, nil)
    audit(id, meta.version, 0, record, keep_ms)
    return 'OK'
end

local function finish_configurations()
    for node, ids in pairs(unbound) do
        unbind(node, ids)
    end
    unbound = {}
    commit_changes()
    if somebody_waits then
        wake()
    end
end
