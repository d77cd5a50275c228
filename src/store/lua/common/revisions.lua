-- The changes that a node reads instead of its whole list, and the messages that wake nodes. No
-- writer of this file and of transitions.lua can fail after check().

-- Notifies the leader that a client waits.
local function wake()
    redis.call('PUBLISH', PREFIX .. 'mqtt_fleet:wake', '')
end

-- Notifies a node of a change of its set or state. Version 0.1 listens only to the common channel.
local function wake_node(node)
    if redis.call('PUBLISH', PREFIX .. 'mqtt_fleet:wake:' .. node, '') == 0 then
        redis.call('PUBLISH', PREFIX .. 'mqtt_fleet:wake', node)
    end
end

local function rev_of(node)
    return to_integer(redis.pcall('GET', rev_key(node))) or 0
end

-- Called after any change of the node's list. A list of a wrong type has no length and is skipped,
-- because this must not fail.
local function resize(node)
    local len = redis.pcall('LLEN', bind_key(node))
    if type(len) ~= 'number' then
        return
    end
    if len == 0 and redis.call('HEXISTS', REGISTER, node) == 0 then
        redis.call('DEL', size_key(node))
    else
        redis.call('SET', size_key(node), len)
    end
end

-- The changes that a node reads instead of its whole list: the ids that changed at each rev, and
-- the digest of the ids that it owns. A rev without such an entry (by an older version or by hand)
-- is a gap: the node then reads the whole list.

local DIGEST_MODULUS = 281474976710656 -- 2^48

-- The share of one owned client in the digest.
local function digest_part(id, owner)
    local text = string.format('%s\n%.0f\n%.0f', id, owner.epoch, owner.version)
    return tonumber(string.sub(redis.sha1hex(text), 1, 12), 16)
end

-- Changes of this script: node -> { delta of the digest, changed ids }.
local changes_by_node = {}
local function note_change(node, id)
    local change = changes_by_node[node] or { delta = 0, ids = {} }
    changes_by_node[node] = change
    change.ids[#change.ids + 1] = id
    return change
end

local function note_gained(id, owner)
    local change = note_change(owner.node, id)
    change.delta = (change.delta + digest_part(id, owner)) % DIGEST_MODULUS
end

local function note_lost(id, owner)
    local change = note_change(owner.node, id)
    change.delta = (change.delta - digest_part(id, owner)) % DIGEST_MODULUS
end

-- Deletes a key of a wrong type, which may have been written by hand.
local function of_type(key, kind)
    local is = redis.call('TYPE', key).ok
    if is ~= 'none' and is ~= kind then
        redis.call('DEL', key)
    end
    return key
end

local function gap_of(node, rev)
    local noted = redis.pcall('HMGET', set_key(node), 'rev', 'gap')
    if rev == 0 or noted.err or to_integer(noted[1]) ~= rev then
        return rev
    end
    return to_integer(noted[2]) or 0
end

local function digest_of(node)
    return to_integer(redis.pcall('HGET', set_key(node), 'digest')) or 0
end

-- A rev is a time in ms. None is used twice, even if Redis loses the last one.
local function commit_node(node, change)
    if redis.call('HEXISTS', REGISTER, node) == 0 then
        return resize(node)
    end
    local noted = to_integer(redis.pcall('HGET', set_key(node), 'rev')) or 0
    local before = math.max(rev_of(node), noted) -- also after somebody deleted the key
    local gap = gap_of(node, before)
    local rev = math.max(before + 1, NOW_MS)
    local text = string.format('%.0f', rev)
    local changed, set = of_type(changed_key(node), 'zset'), of_type(set_key(node), 'hash')
    redis.call('SET', rev_key(node), text)
    for _, id in ipairs(change.ids) do
        redis.call('ZADD', changed, text, id)
    end
    if redis.call('ZCARD', changed) > CHANGES_MAX then
        redis.call('DEL', changed)
        gap = rev
    end
    local digest = (digest_of(node) + change.delta) % DIGEST_MODULUS
    redis.call('HSET', set, 'rev', text, 'gap', string.format('%.0f', gap),
        'digest', string.format('%.0f', digest))
    resize(node)
    wake_node(node)
end

-- Called last in a script that changed what nodes own.
local function commit_changes()
    for node, change in pairs(changes_by_node) do
        commit_node(node, change)
    end
    changes_by_node = {}
end

-- Makes a node compare its whole list.
local function request_full_comparison(node)
    note_change(node, nil)
    commit_changes()
    redis.call('HSET', set_key(node), 'gap', string.format('%.0f', rev_of(node)))
end

