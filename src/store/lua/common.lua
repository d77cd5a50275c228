-- What all scripts share; store.c puts this file in front of each of them. It holds the names of
-- the keys, readers that survive rubbish, and the steps that several transitions have in common.
-- KEYS[1]: <prefix>mqtt_config:no, there only so that a cluster can route the call.
-- ARGV[1]: the prefix of all keys. Every answer is an array that begins with a word: 'OK', or why
-- not.

local PREFIX = ARGV[1]
local BATCH_MAX = 200
local CHANGES_MAX = 20000 -- noted for a node that does not read them
local FENCED_MS = 86400000
local TOMBSTONE_MS = 3600000
local BEAT_MS_MAX = 600000 -- the longest heartbeat_ttl_ms that settings allow
local CLOCK_SLACK_MS = 1000 -- a step back by no more than this is none
local DELAY_MS_MAX = 108000000 -- the longest that settings allow, a day, and a quarter
local DELAY_MS_UNKNOWN = 750000 -- of an entry whose delay was not noted: by older nodes, by hand

local NO = PREFIX .. 'mqtt_config:no'
local USE = PREFIX .. 'mqtt_config:use'
local REGISTER = PREFIX .. 'register:mqtt'
local OWNER = PREFIX .. 'mqtt_fleet:owner'
local META = PREFIX .. 'mqtt_fleet:meta'
local ATTEMPT = PREFIX .. 'mqtt_fleet:attempt'
local IDENTITY = PREFIX .. 'mqtt_fleet:identity'
local RETRY = PREFIX .. 'mqtt_fleet:retry'
local TOMBSTONES = PREFIX .. 'mqtt_fleet:tombstones'
local EPOCH = PREFIX .. 'mqtt_fleet:epoch'
local LEADER = PREFIX .. 'mqtt_fleet:leader'
local GENERATION = PREFIX .. 'mqtt_fleet:generation'
local STANDBY = PREFIX .. 'mqtt_fleet:standby'
local FENCED = PREFIX .. 'mqtt_fleet:fenced'
local BURIED = PREFIX .. 'mqtt_fleet:buried'
local SEQUENCE = PREFIX .. 'mqtt_fleet:sequence'
local RESTORING = PREFIX .. 'mqtt_fleet:restoring'
local UNPLACED = PREFIX .. 'mqtt_fleet:unplaced'
local FLEET = PREFIX .. 'mqtt_fleet:name'
local SETTINGS = PREFIX .. 'mqtt_fleet:settings'

local function keyed(name)
    return function(node)
        return PREFIX .. name .. node
    end
end

local bind_key = keyed('node_bind:')
local size_key = keyed('mqtt_size:')
local beat_key = keyed('beat:mqtt:')
local rev_key = keyed('mqtt_fleet:rev:')
local set_key = keyed('mqtt_fleet:set:')
local changed_key = keyed('mqtt_fleet:changed:')
local facts_key = keyed('mqtt_fleet:facts:')

-- The incarnation that beats under that name, or nil; what is no text is no beat.
local function beat_of(node)
    local beat = redis.pcall('GET', beat_key(node))
    return type(beat) == 'string' and beat or nil
end

local time = redis.call('TIME')
local NOW_US = tonumber(time[1]) * 1000000 + tonumber(time[2])
local NOW_MS = math.floor(NOW_US / 1000)

-- ---- readers -----------------------------------------------------------------------------------

-- Reads each shared key once, so that one of a wrong type fails the script here, before any write.
local function check()
    for _, hash in ipairs({ NO, USE, REGISTER, OWNER, META, ATTEMPT, IDENTITY, BURIED }) do
        redis.call('HLEN', hash)
    end
    for _, zset in ipairs({ RETRY, TOMBSTONES, FENCED }) do
        redis.call('ZCARD', zset)
    end
    redis.call('GET', EPOCH)
end

-- A whole number of at most 53 bits from a number or text, else nil.
local function whole(value)
    local number = tonumber(value)
    if number and number >= 0 and number < 9007199254740992 then
        return math.floor(number)
    end
end

local function text_or(value, standard)
    if type(value) == 'string' then
        return value
    end
    return standard
end

-- The JSON object in a field; an empty table when it is rubbish, nil when there is no such field.
local function object(hash, field)
    local text = redis.call('HGET', hash, field)
    if not text then
        return nil
    end
    local ok, value = pcall(cjson.decode, text)
    if ok and type(value) == 'table' then
        return value
    end
    return {}
end

-- The owner record of an id that is in `use`; nil when there is none that can be read.
local function owner_of(id)
    local record = object(OWNER, id)
    local epoch = record and whole(record.epoch)
    if not epoch or type(record.node) ~= 'string' or type(record.incarnation) ~= 'string' then
        return nil
    end
    return {
        node = record.node,
        incarnation = record.incarnation,
        epoch = epoch,
        version = whole(record.version) or 1,
        since = whole(record.since) or 0,
    }
end

-- Several identities stand in a member of their own: nodes of an older version, whose scripts know
-- one, then find it unknown, and leave the entries of all of them to this id.
local function meta_of(id)
    local record = object(META, id) or {}
    local identity = text_or(record.identities, '')
    if identity == '' then
        identity = text_or(record.identity, '')
    end
    return {
        version = whole(record.version) or 1,
        was = whole(record.was) or 0,
        epoch = whole(record.epoch) or 0,
        identity = identity,
        known = next(record) ~= nil,
    }
end

-- A version is a time in ms, so that none is given twice although Redis forgot that it gave it.
local function version_after(version)
    return math.max(version + 1, NOW_MS)
end

local function attempt_of(id)
    local record = object(ATTEMPT, id) or {}
    return {
        count = whole(record.count) or 0,
        code = text_or(record.code, false),
        error = text_or(record.error, false),
        message = text_or(record.message, false),
        node = text_or(record.node, false),
        at = whole(record.at) or 0,
        rest = whole(record.rest) or 0,
        rest_until = whole(record.rest_until) or 0,
        delay = whole(record.delay),
        denied = record.denied,
        denied_version = record.denied_version,
        denied_rounds = whole(record.denied_rounds),
        text = text_or(record.text, nil),
        calm = record.calm == true,
    }
end

local DENIED_MS_MAX = 600000 -- then names may lead to other addresses: nodes are asked anew

-- The incarnations that may not reach the broker of this version, as a list and as a set.
local function denials_of(record, version)
    local list, set = {}, {}
    local age_ms = NOW_MS - record.at
    local stored = type(record.denied) == 'table' and whole(record.denied_version) == version and
        age_ms >= 0 and age_ms < DENIED_MS_MAX
    for _, incarnation in ipairs(stored and record.denied or {}) do
        if type(incarnation) == 'string' and not set[incarnation] then
            list[#list + 1] = incarnation
            set[incarnation] = true
        end
    end
    return list, set
end

-- Whoever else holds the identifier may only be resting: peace must last for longer than that.
-- An end further ahead than the rest is long: the clock went back, the rest is over.
local function long_peace(attempt)
    local peace = NOW_MS - attempt.rest_until
    return peace >= 2 * attempt.rest or -peace > attempt.rest
end

-- The register's entry; of one that is not ours all fields may be empty. nil: no entry.
local function node_of(name)
    local record = object(REGISTER, name)
    if not record then
        return nil
    end
    return {
        name = name,
        host = text_or(record.host, ''),
        port = whole(record.port) or 0,
        type = text_or(record.type, ''),
        size = whole(record.size) or 0,
        incarnation = text_or(record.incarnation, ''),
        state = text_or(record.state, ''),
        version = text_or(record.version, ''),
        ttl = whole(record.ttl) or BEAT_MS_MAX,
        started = whole(record.started) or 0,
    }
end

-- Does any incarnation beat under that name? A beat that would live for longer than it was made for
-- is from before the clock went back. node: the register's entry, or nil.
local function beats(name, node)
    local ttl_ms = node and node.ttl or BEAT_MS_MAX
    return beat_of(name) and redis.call('PTTL', beat_key(name)) <= ttl_ms + CLOCK_SLACK_MS
end

-- The caller's own entry: registered under this incarnation and not dead; else nil.
local function member(name, incarnation)
    local node = node_of(name)
    if node and incarnation ~= '' and node.incarnation == incarnation and node.state ~= 'dead' then
        return node
    end
end

local function owned_by(owner, node, incarnation)
    return owner and owner.node == node and owner.incarnation == incarnation
end

local function exists(id)
    return redis.call('HEXISTS', NO, id) == 1 or redis.call('HEXISTS', USE, id) == 1
end

-- The time before which nobody takes the id; 0: it may be taken. What lies further ahead than it
-- was put off for was written before the clock went back, and counts as over.
local function not_before(id)
    local time_ms = whole(redis.call('ZSCORE', RETRY, id)) or 0
    if time_ms <= NOW_MS then
        return 0
    end
    local attempt = attempt_of(id)
    local longest_ms = attempt.delay or math.max(attempt.rest, DELAY_MS_UNKNOWN)
    return time_ms - NOW_MS > longest_ms and 0 or time_ms
end

-- Those that wait and may not be taken yet, also after the clock went back.
local function resting()
    return redis.call('ZCOUNT', RETRY, '(' .. NOW_MS, NOW_MS + DELAY_MS_MAX)
end

-- Redis lost data, and nodes put back what they run. The key holds how long it was to last: one that
-- would last longer is from before the clock went back, or was written by hand, and counts as none.
local function restoring()
    local most_ms = whole(redis.pcall('GET', RESTORING))
    local left_ms = most_ms and redis.call('PTTL', RESTORING)
    return left_ms and left_ms > 0 and left_ms <= most_ms + CLOCK_SLACK_MS
end

local function restore_for(duration_ms)
    redis.call('SET', RESTORING, duration_ms, 'PX', duration_ms)
end

-- As long as there is a tombstone, whatever its time says: the clock may have jumped. nil: none;
-- one of which nothing more is noted, by a node of an older version, stands against all.
local function tombstone_of(id)
    local time = redis.call('ZSCORE', TOMBSTONES, id)
    if not time then
        return nil
    end
    local noted = redis.call('HGET', BURIED, id) or ''
    local of, version, epoch = string.match(noted, '^(%d+) (%d+) (%d+)$')
    if whole(of) ~= whole(time) then
        return { version = math.huge, epoch = math.huge }
    end
    return { version = whole(version), epoch = whole(epoch) }
end

-- A client of several brokers has an identity at each: a line each.
local function identities_of(identity)
    return string.gmatch(identity, '[^\n]+')
end

-- An entry which its id does not bear out is stale.
local function bears_out(id, one)
    local theirs = meta_of(id).identity
    return theirs == '' or ('\n' .. theirs .. '\n'):find('\n' .. one .. '\n', 1, true)
end

-- Another id that has one of these identities now, or nil; and whether all are noted as this id's.
local function identity_holder(identity, id)
    local all = true
    for one in identities_of(identity) do
        local holder = redis.call('HGET', IDENTITY, one)
        all = all and holder == id
        if holder and holder ~= id and exists(holder) and bears_out(holder, one) then
            return holder, false
        end
    end
    return nil, all
end

-- Everything known of an id, in the order store_client.c reads it.
local function describe(id, config, owner)
    local attempt = attempt_of(id)
    local version = owner and owner.version or meta_of(id).version
    owner = owner or { node = false, incarnation = false, epoch = 0, since = 0 }
    return {
        id, config, version,
        owner.node, owner.incarnation, owner.epoch, owner.since,
        attempt.count, attempt.code, attempt.message, attempt.node, attempt.at,
        math.max(not_before(id) - NOW_MS, 0), attempt.error,
        table.concat(denials_of(attempt, version), ' '),
    }
end

-- ---- writers: none of them can fail once check() has passed ------------------------------------

-- Something waits.
local function wake()
    redis.call('PUBLISH', PREFIX .. 'mqtt_fleet:wake', '')
end

-- A node's set or state changed. Nodes of version 0.1 listen to the common channel only.
local function wake_node(node)
    if redis.call('PUBLISH', PREFIX .. 'mqtt_fleet:wake:' .. node, '') == 0 then
        redis.call('PUBLISH', PREFIX .. 'mqtt_fleet:wake', node)
    end
end

local function rev_of(node)
    return whole(redis.pcall('GET', rev_key(node))) or 0
end

-- After any change to the node's list. One of a wrong type has no length; this is no time to fail.
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

-- What a node reads instead of its whole list: which ids changed at which rev, and the sum of what
-- it owns. A change of the rev that was not noted here (an older version's, or one by hand) is a
-- gap: the node then reads the list.

local DIGEST_MODULUS = 281474976710656 -- 2^48

-- One owned client's part of the sum.
local function digest_part(id, owner)
    local text = string.format('%s\n%.0f\n%.0f', id, owner.epoch, owner.version)
    return tonumber(string.sub(redis.sha1hex(text), 1, 12), 16)
end

-- Of this script: node -> { delta of the sum, changed ids }.
local touched = {}
local function touch(node, id)
    local change = touched[node] or { delta = 0, ids = {} }
    touched[node] = change
    change.ids[#change.ids + 1] = id
    return change
end

local function gained(id, owner)
    local change = touch(owner.node, id)
    change.delta = (change.delta + digest_part(id, owner)) % DIGEST_MODULUS
end

local function lost(id, owner)
    local change = touch(owner.node, id)
    change.delta = (change.delta - digest_part(id, owner)) % DIGEST_MODULUS
end

-- Makes room for a key that may have been spoilt by hand.
local function of_type(key, kind)
    local is = redis.call('TYPE', key).ok
    if is ~= 'none' and is ~= kind then
        redis.call('DEL', key)
    end
    return key
end

local function gap_of(node, rev)
    local noted = redis.pcall('HMGET', set_key(node), 'rev', 'gap')
    if rev == 0 or noted.err or whole(noted[1]) ~= rev then
        return rev
    end
    return whole(noted[2]) or 0
end

local function digest_of(node)
    return whole(redis.pcall('HGET', set_key(node), 'digest')) or 0
end

-- A rev is a time in ms, so that none is given twice although Redis forgot that it gave it.
local function settle_node(node, change)
    if redis.call('HEXISTS', REGISTER, node) == 0 then
        return resize(node)
    end
    local noted = whole(redis.pcall('HGET', set_key(node), 'rev')) or 0
    local before = math.max(rev_of(node), noted) -- also when somebody deleted the key
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

-- Last in a script that changed what nodes own.
local function settle()
    for node, change in pairs(touched) do
        settle_node(node, change)
    end
    touched = {}
end

-- A node is to compare its whole list.
local function settle_anew(node)
    touch(node, nil)
    settle()
    redis.call('HSET', set_key(node), 'gap', string.format('%.0f', rev_of(node)))
end

-- Takes ids off a node's list. LREM walks the whole list each time: many are filtered out at once.
local function unbind(node, ids)
    local list = bind_key(node)
    if #ids <= 20 then
        for _, id in ipairs(ids) do
            redis.call('LREM', list, 0, id)
        end
        return
    end
    local gone, chunk = {}, {}
    for _, id in ipairs(ids) do
        gone[id] = true
    end
    local all = redis.call('LRANGE', list, 0, -1)
    redis.call('DEL', list)
    for i, id in ipairs(all) do
        if not gone[id] then
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

local function forget_identity(id)
    for one in identities_of(meta_of(id).identity) do
        if redis.call('HGET', IDENTITY, one) == id then
            redis.call('HDEL', IDENTITY, one)
        end
    end
end

-- meta.identity '': not known. meta.was: the version before; meta.epoch: the last it was owned at
-- before it waited. With the identity that is noted; else set_meta.
local function keep_meta(id, meta)
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
    forget_identity(id)
    for one in identities_of(meta.identity) do
        redis.call('HSET', IDENTITY, one, id)
    end
    keep_meta(id, meta)
end

-- A new text: the next version.
local function renew_meta(id, meta, version, identity)
    meta.was, meta.version, meta.identity = meta.version, version, identity
    set_meta(id, meta)
end

local function set_attempt(id, attempt)
    redis.call('HSET', ATTEMPT, id, cjson.encode(attempt))
end

-- Puts a waiting id off; the caller keeps the attempt.
local function put_off(id, attempt, delay_ms)
    attempt.delay = math.min(delay_ms, DELAY_MS_MAX)
    if delay_ms > 0 then
        redis.call('ZADD', RETRY, NOW_MS + attempt.delay, id)
    else
        redis.call('ZREM', RETRY, id)
    end
end

-- Greater than any epoch before, also when the counter was lost. keep_epoch() after the last one.
local newest_epoch
local function next_epoch(least)
    newest_epoch = newest_epoch or whole(redis.call('GET', EPOCH)) or 0
    newest_epoch = math.max(newest_epoch + 1, NOW_US, least)
    return newest_epoch
end

local function keep_epoch()
    redis.call('SET', EPOCH, string.format('%.0f', newest_epoch))
end

-- use -> no, the list being the caller's business. A text written by hand over an owned id waits in
-- `no` already: it is the newer one, and its identity is not known. owner nil: none that can be read.
local function to_waiting(id, config, owner)
    redis.call('HDEL', USE, id)
    redis.call('HDEL', OWNER, id)
    local meta = meta_of(id)
    if owner then
        lost(id, owner)
        meta.epoch = math.max(meta.epoch, owner.epoch)
    end
    local written = redis.call('HGET', NO, id)
    if not written then
        redis.call('HSET', NO, id, config)
    end
    if written and written ~= config then
        renew_meta(id, meta, version_after(meta.version), '')
    elseif owner then
        keep_meta(id, meta)
    end
end

local function dig_up(id)
    if redis.call('ZREM', TOMBSTONES, id) == 1 then
        redis.call('HDEL', BURIED, id)
    end
end

-- no -> use. Answers the owner record.
local function to_owned(id, config, owner)
    redis.call('HSET', USE, id, config)
    redis.call('HDEL', NO, id)
    redis.call('ZREM', RETRY, id)
    dig_up(id)
    redis.call('RPUSH', bind_key(owner.node), id)
    set_owner(id, owner)
    gained(id, owner)
    return owner
end

-- The same owner, another version or epoch.
local function reown(id, owner, change)
    lost(id, owner)
    for field, value in pairs(change) do
        owner[field] = value
    end
    set_owner(id, owner)
    gained(id, owner)
end

-- Takes up to a batch of ids off the list of a node that does not run. What it owned, and what has
-- no owner, goes to waiting; what another owns only leaves the list. Answers how many wait now.
local function take_from(node)
    local ids = redis.call('LRANGE', bind_key(node), 0, BATCH_MAX - 1)
    local moved = 0
    for _, id in ipairs(ids) do
        local config = redis.call('HGET', USE, id)
        local owner = config and owner_of(id)
        touch(node, id)
        if config and (not owner or owner.node == node) then
            to_waiting(id, config, owner)
            moved = moved + 1
        end
    end
    if #ids > 0 then
        redis.call('LTRIM', bind_key(node), #ids, -1)
        settle()
    end
    if moved > 0 then
        wake()
    end
    return moved
end

local function remove_node(node)
    redis.call('HDEL', REGISTER, node)
    redis.pcall('HDEL', SETTINGS, node)
    redis.call('DEL', bind_key(node), size_key(node), rev_key(node), beat_key(node),
        set_key(node), changed_key(node), facts_key(node))
end

-- So that its beats are refused after the register has forgotten it, too.
local function outlaw(incarnation)
    redis.call('ZREMRANGEBYSCORE', FENCED, '-inf', NOW_MS - FENCED_MS)
    if incarnation ~= '' then
        redis.call('ZADD', FENCED, NOW_MS, incarnation)
    end
end

-- Also in a beat, which is not to fail because a key was spoilt by hand.
local function outlawed(incarnation)
    return type(redis.pcall('ZSCORE', FENCED, incarnation)) == 'string'
end

-- ---- what a node runs against what Redis knows ---------------------------------------------------

-- Version 0.1 counts a client's versions from 1. If Redis has such a count, and the node runs a greater
-- version, the client was deleted and created anew since, unless Redis has just gone back.
local COUNTED_MAX = 1000000000000
local function created_anew(known, version)
    return known < COUNTED_MAX and known < version and not restoring()
end

-- 'MINE'; 'STALE': its own, with a newer text; 'NEWER': another owns it; 'WAITING': it was released;
-- 'TOMBSTONE': it was deleted; 'OLDER' and 'NONE': Redis lacks what the node has, see restore.
local function judge(id, node, incarnation, epoch, version)
    local owner = redis.call('HEXISTS', USE, id) == 1 and owner_of(id)
    if owned_by(owner, node, incarnation) then
        if created_anew(owner.version, version) then
            return 'STALE', owner
        end
        if epoch > owner.epoch or version > owner.version then
            return 'OLDER', owner
        end
        return epoch == owner.epoch and version == owner.version and 'MINE' or 'STALE', owner
    end
    local meta = meta_of(id)
    local anew = meta.known and created_anew(meta.version, version)
    if owner then
        local newer = anew or (owner.epoch >= epoch and meta.version >= version)
        return newer and 'NEWER' or 'OLDER', owner
    end
    if redis.call('HEXISTS', NO, id) == 1 then
        local newer = anew or (meta.epoch >= epoch and meta.version >= version)
        return newer and 'WAITING' or 'OLDER'
    end
    local tombstone = tombstone_of(id)
    if tombstone and tombstone.version >= version and tombstone.epoch >= epoch then
        return 'TOMBSTONE'
    end
    return 'NONE'
end

-- ---- the transition ----------------------------------------------------------------------------

