-- assign: waiting -> owned, with a new epoch. ARGV[2...]: target, its incarnation; then of each client
-- id, identity ('' if unknown) and a version (0: none). A stored identity is kept, unless the client has
-- this version: then a profile has changed the identity. Any node may call it, not only the leader.
-- Refused: nodes restore their clients ('STATE'); the target is not registered under this incarnation,
-- dead, or without a heartbeat ('FENCED'), or does not accept clients ('REFUSED'); per id: see below.
-- Answers: 'OK', and per id 'ASSIGNED' 'GONE' 'FULL' 'LATER' 'IDENTITY', epoch.

if #ARGV - 3 > BATCH_MAX * 3 then
    return redis.error_reply('ERR too many ids')
end
local node, incarnation = ARGV[2], ARGV[3]
check()
local size = redis.call('LLEN', bind_key(node))

if restoring() then
    return { 'STATE' }
end
if not member(node, incarnation) or heartbeat_of(node) ~= incarnation then
    return { 'FENCED' }
end
local target = accepting(node, incarnation)
if not target then
    return { 'REFUSED' }
end

-- Somebody wrote a configuration by hand into `no` for an owned id: it becomes the next version.
local function take_written(id, written, used, identity, owner)
    redis.call('HDEL', NO, id)
    redis.call('ZREM', RETRY, id)
    if written == used then
        return
    end
    local meta = meta_of(id)
    local version = version_after(meta.version)
    renew_meta(id, meta, version, identity)
    redis.call('HSET', USE, id, written)
    update_owner(id, owner, { version = version })
end

local assigned = 0

local function assign(id, identity, identity_version)
    local waiting = redis.call('HGET', NO, id)
    local used = redis.call('HGET', USE, id)
    local owner = used and owner_of(id)
    if waiting and not_before(id) > NOW_MS then
        return { 'LATER', 0 }
    end
    if owner then
        if waiting and identity_owner(identity, id) then
            return { 'IDENTITY', 0 }
        end
        if waiting then
            take_written(id, waiting, used, identity, owner)
        end
        if not owned_by(owner, node, incarnation) then
            return { 'GONE', 0 }
        end
        return { 'ASSIGNED', string.format('%.0f', owner.epoch) }
    end
    if not waiting then
        return { 'GONE', 0 }
    end
    if size >= target.size then
        return { 'FULL', 0 }
    end
    local meta = meta_of(id)
    local renewed = identity_version == meta.version and identity ~= meta.identity
    if meta.identity ~= '' and not renewed then
        identity = meta.identity
    end
    local other_id, noted = identity_owner(identity, id)
    if other_id then
        return { 'IDENTITY', 0 }
    end
    if meta.identity == '' or renewed or not noted then
        meta.identity = identity
        set_meta(id, meta)
    end
    owner = to_owned(id, waiting, {
        node = node,
        incarnation = incarnation,
        epoch = next_epoch(meta.epoch + 1),
        version = meta.version,
        since = NOW_MS,
    })
    size = size + 1
    assigned = assigned + 1
    return { 'ASSIGNED', string.format('%.0f', owner.epoch) }
end

local results = {}
for i = 4, #ARGV, 3 do
    results[#results + 1] = assign(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]))
end
if assigned > 0 then
    write_epoch()
end
commit_changes()
return { 'OK', results }
