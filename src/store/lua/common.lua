-- Shared by all scripts; store.c prepends this file to each. It contains the key names, readers
-- that tolerate invalid data, and steps that several transitions use. KEYS[1]:
-- <prefix>mqtt_config:no, only for the routing of a cluster. ARGV[1]: the prefix of all keys. Every
-- answer is an array that begins with a word: 'OK', or the reason for a rejection.

local PREFIX = ARGV[1]
local BATCH_MAX = 200
local CHANGES_MAX = 20000 -- kept for a node that does not read them
local FENCED_MS = 86400000
local TOMBSTONE_MS = 3600000
local BEAT_MS_MAX = 600000 -- the maximum of heartbeat_ttl_ms
local CLOCK_SLACK_MS = 1000 -- smaller steps back of the clock are ignored
local DELAY_MS_MAX = 108000000 -- the longest delay of the settings, a day, plus a quarter
local DELAY_MS_UNKNOWN = 750000 -- of an entry without a delay, written by an older node or by hand

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

-- The incarnation in the node's heartbeat, or nil. A value that is not text is ignored.
local function beat_of(node)
    local beat = redis.pcall('GET', beat_key(node))
    return type(beat) == 'string' and beat or nil
end

local time = redis.call('TIME')
local NOW_US = tonumber(time[1]) * 1000000 + tonumber(time[2])
local NOW_MS = math.floor(NOW_US / 1000)

-- ---- readers -----------------------------------------------------------------------------------

-- Reads each shared key once. A key of a wrong type then fails the script here, before any write.
local function check()
    for _, hash in ipairs({ NO, USE, REGISTER, OWNER, META, ATTEMPT, IDENTITY, BURIED }) do
        redis.call('HLEN', hash)
    end
    for _, zset in ipairs({ RETRY, TOMBSTONES, FENCED }) do
        redis.call('ZCARD', zset)
    end
    redis.call('GET', EPOCH)
end

-- A number or text as a whole number of at most 53 bits, else nil.
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

-- The JSON object in a field; an empty table if it is invalid, nil if the field is missing.
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

-- The owner record of an id in `use`; nil if there is no valid one.
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

-- Several identities are stored in a separate field. Nodes of an older version, whose scripts
-- support only one, see an unknown identity and do not change the entries of this id.
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

-- A version is a time in ms. None is used twice, even if Redis loses the last one.
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

local DENIED_MS_MAX = 600000 -- names may then resolve to other addresses: nodes are asked again

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

-- Another owner of the identifier may only be in its own cool-down. The stable period must be
-- longer than that. If the cool-down seems to end later than it lasts, the clock went back and it
-- is over.
local function stable_long_enough(attempt)
    local stable_ms = NOW_MS - attempt.rest_until
    return stable_ms >= 2 * attempt.rest or -stable_ms > attempt.rest
end

-- The entry in the register. In an entry of another program all fields may be empty. nil: no entry.
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

-- Does any incarnation have a valid heartbeat under that name? A heartbeat that expires later than
-- its time to live was written before the clock went back. node: the entry in the register, or nil.
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

-- The time before which the id is not assigned; 0: it can be assigned. A time further ahead than
-- its delay was written before the clock went back, and counts as passed.
local function not_before(id)
    local time_ms = whole(redis.call('ZSCORE', RETRY, id)) or 0
    if time_ms <= NOW_MS then
        return 0
    end
    local attempt = attempt_of(id)
    local longest_ms = attempt.delay or math.max(attempt.rest, DELAY_MS_UNKNOWN)
    return time_ms - NOW_MS > longest_ms and 0 or time_ms
end

-- The number of waiting ids that cannot be assigned yet, also correct after the clock went back.
local function count_delayed()
    return redis.call('ZCOUNT', RETRY, '(' .. NOW_MS, NOW_MS + DELAY_MS_MAX)
end

-- True while nodes restore their clients after Redis lost data. The value of the key is the time to
-- live that it was written with. If the key lives longer than that, the clock went back or somebody
-- wrote the key by hand: the key is ignored.
local function restoring()
    local most_ms = whole(redis.pcall('GET', RESTORING))
    local left_ms = most_ms and redis.call('PTTL', RESTORING)
    return left_ms and left_ms > 0 and left_ms <= most_ms + CLOCK_SLACK_MS
end

local function restore_for(duration_ms)
    redis.call('SET', RESTORING, duration_ms, 'PX', duration_ms)
end

-- A tombstone is valid as long as it exists, whatever its time, because the clock may have jumped.
-- nil: none. A tombstone without details, written by a node of an older version, is newer than
-- everything.
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

-- A client of several brokers has an identity at each, one per line.
local function identities_of(identity)
    return string.gmatch(identity, '[^\n]+')
end

-- An index entry that the id does not confirm is stale.
local function confirms_identity(id, one)
    local theirs = meta_of(id).identity
    return theirs == '' or ('\n' .. theirs .. '\n'):find('\n' .. one .. '\n', 1, true)
end

-- Another id that has one of these identities, or nil; and whether all are indexed for this id.
local function identity_holder(identity, id)
    local all = true
    for one in identities_of(identity) do
        local holder = redis.call('HGET', IDENTITY, one)
        all = all and holder == id
        if holder and holder ~= id and exists(holder) and confirms_identity(holder, one) then
            return holder, false
        end
    end
    return nil, all
end

-- Everything known of an id, in the order in which store_client.c reads it.
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

-- ---- writers: none of them can fail after check() ----------------------------------------------

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
    return whole(redis.pcall('GET', rev_key(node))) or 0
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

local function gained(id, owner)
    local change = note_change(owner.node, id)
    change.delta = (change.delta + digest_part(id, owner)) % DIGEST_MODULUS
end

local function lost(id, owner)
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
    if rev == 0 or noted.err or whole(noted[1]) ~= rev then
        return rev
    end
    return whole(noted[2]) or 0
end

local function digest_of(node)
    return whole(redis.pcall('HGET', set_key(node), 'digest')) or 0
end

-- A rev is a time in ms. None is used twice, even if Redis loses the last one.
local function settle_node(node, change)
    if redis.call('HEXISTS', REGISTER, node) == 0 then
        return resize(node)
    end
    local noted = whole(redis.pcall('HGET', set_key(node), 'rev')) or 0
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
local function settle()
    for node, change in pairs(changes_by_node) do
        settle_node(node, change)
    end
    changes_by_node = {}
end

-- Makes a node compare its whole list.
local function request_full_comparison(node)
    note_change(node, nil)
    settle()
    redis.call('HSET', set_key(node), 'gap', string.format('%.0f', rev_of(node)))
end

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
    newest_epoch = newest_epoch or whole(redis.call('GET', EPOCH)) or 0
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
    gained(id, owner)
    return owner
end

-- The same owner with another version or epoch.
local function reown(id, owner, change)
    lost(id, owner)
    for field, value in pairs(change) do
        owner[field] = value
    end
    set_owner(id, owner)
    gained(id, owner)
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

-- ---- what a node runs compared with Redis
-- --------------------------------------------------------

-- Version 0.1 counts a client's versions from 1. If Redis has such a count and the node runs a
-- greater version, the client was deleted and created again, unless Redis has just lost data.
local COUNTED_MAX = 1000000000000
local function created_again(known, version)
    return known < COUNTED_MAX and known < version and not restoring()
end

-- 'MINE'; 'STALE': its own, with a newer version in Redis; 'NEWER': another node owns it;
-- 'WAITING': it was released; 'TOMBSTONE': it was deleted; 'OLDER' and 'NONE': Redis lacks what the
-- node has, see restore.
local function ownership_status(id, node, incarnation, epoch, version)
    local owner = redis.call('HEXISTS', USE, id) == 1 and owner_of(id)
    if owned_by(owner, node, incarnation) then
        if created_again(owner.version, version) then
            return 'STALE', owner
        end
        if epoch > owner.epoch or version > owner.version then
            return 'OLDER', owner
        end
        return epoch == owner.epoch and version == owner.version and 'MINE' or 'STALE', owner
    end
    local meta = meta_of(id)
    local anew = meta.known and created_again(meta.version, version)
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

