-- The records in Redis of ids, nodes, tombstones and identities. Invalid data is tolerated.

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
local function to_integer(value)
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
    local epoch = record and to_integer(record.epoch)
    if not epoch or type(record.node) ~= 'string' or type(record.incarnation) ~= 'string' then
        return nil
    end
    return {
        node = record.node,
        incarnation = record.incarnation,
        epoch = epoch,
        version = to_integer(record.version) or 1,
        since = to_integer(record.since) or 0,
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
        version = to_integer(record.version) or 1,
        was = to_integer(record.was) or 0,
        epoch = to_integer(record.epoch) or 0,
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
        count = to_integer(record.count) or 0,
        code = text_or(record.code, false),
        error = text_or(record.error, false),
        message = text_or(record.message, false),
        node = text_or(record.node, false),
        at = to_integer(record.at) or 0,
        rest = to_integer(record.rest) or 0,
        rest_until = to_integer(record.rest_until) or 0,
        delay = to_integer(record.delay),
        denied = record.denied,
        denied_version = record.denied_version,
        denied_rounds = to_integer(record.denied_rounds),
        text = text_or(record.text, nil),
        calm = record.calm == true,
    }
end

local DENIED_MS_MAX = 600000 -- names may then resolve to other addresses: nodes are asked again

-- The incarnations that may not reach the broker of this version, as a list and as a set.
local function denials_of(record, version)
    local list, set = {}, {}
    local age_ms = NOW_MS - record.at
    local stored = type(record.denied) == 'table' and to_integer(record.denied_version) == version and
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
        port = to_integer(record.port) or 0,
        type = text_or(record.type, ''),
        size = to_integer(record.size) or 0,
        incarnation = text_or(record.incarnation, ''),
        state = text_or(record.state, ''),
        version = text_or(record.version, ''),
        ttl = to_integer(record.ttl) or HEARTBEAT_MS_MAX,
        started = to_integer(record.started) or 0,
    }
end

-- Does any incarnation have a valid heartbeat under that name? A heartbeat that expires later than
-- its time to live was written before the clock went back. node: the entry in the register, or nil.
local function has_heartbeat(name, node)
    local ttl_ms = node and node.ttl or HEARTBEAT_MS_MAX
    return heartbeat_of(name) and redis.call('PTTL', heartbeat_key(name)) <= ttl_ms + CLOCK_SLACK_MS
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
    local time_ms = to_integer(redis.call('ZSCORE', RETRY, id)) or 0
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
    local written_ms = to_integer(redis.pcall('GET', RESTORING))
    local left_ms = written_ms and redis.call('PTTL', RESTORING)
    return left_ms and left_ms > 0 and left_ms <= written_ms + CLOCK_SLACK_MS
end

-- The entry of a node that clients may be assigned to; else nil.
local function accepting(name, incarnation)
    local node = member(name, incarnation)
    if node and node.state == 'live' and heartbeat_of(name) == incarnation and not restoring() then
        return node
    end
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
    if to_integer(of) ~= to_integer(time) then
        return { version = math.huge, epoch = math.huge }
    end
    return { version = to_integer(version), epoch = to_integer(epoch) }
end

-- A client of several brokers has an identity at each, one per line.
local function identities_of(identity)
    return string.gmatch(identity, '[^\n]+')
end

-- An index entry that the id does not confirm is stale.
local function confirms_identity(id, one)
    local stored = meta_of(id).identity
    return stored == '' or ('\n' .. stored .. '\n'):find('\n' .. one .. '\n', 1, true)
end

-- Another id that has one of these identities, or nil; and whether all are indexed for this id.
local function identity_owner(identity, id)
    local all = true
    for one in identities_of(identity) do
        local other_id = redis.call('HGET', IDENTITY, one)
        all = all and other_id == id
        if other_id and other_id ~= id and exists(other_id) and confirms_identity(other_id, one) then
            return other_id, false
        end
    end
    return nil, all
end

-- A configuration that names a profile is stored behind a mark. A node that does not know profiles
-- then reads no configuration, instead of one without the fields of the profile.
local profile_mark = { text = 'profile\n' }

function profile_mark.add(config)
    if not config:find('"profile":', 1, true) then
        return config
    end
    local ok, value = pcall(cjson.decode, config)
    local named = ok and type(value) == 'table' and type(value.profile) == 'string'
    return named and profile_mark.text .. config or config
end

function profile_mark.remove(text)
    local marked = text:sub(1, #profile_mark.text) == profile_mark.text
    return marked and text:sub(#profile_mark.text + 1) or text
end

-- The identity of a client that has a profile, with which it may have changed; '' of any other.
function profile_mark.identity(id, text)
    return text:sub(1, #profile_mark.text) == profile_mark.text and meta_of(id).identity or ''
end

-- What the client has done so far, as its last node has stored it; false: nothing.
local function history_of(id)
    local history = redis.pcall('HGET', HISTORY, id)
    return type(history) == 'string' and history
end

-- Everything known of an id, in the order in which store_client.c reads it.
local function describe(id, config, owner)
    local attempt = attempt_of(id)
    local version = owner and owner.version or meta_of(id).version
    owner = owner or { node = false, incarnation = false, epoch = 0, since = 0 }
    return {
        id, profile_mark.remove(config), version,
        owner.node, owner.incarnation, owner.epoch, owner.since,
        attempt.count, attempt.code, attempt.message, attempt.node, attempt.at,
        math.max(not_before(id) - NOW_MS, 0), attempt.error,
        table.concat(denials_of(attempt, version), ' '), profile_mark.identity(id, config),
    }
end

