-- claim: waiting -> owned, with a new epoch. ARGV[2...]: node, incarnation, then id, identity (''
-- if not known) of each.
-- Refused: the node is not registered under this incarnation, dead or not beating ('FENCED'), or
-- draining ('REFUSED'); per id: see below.
-- Answers: 'OK', rev, and per id the outcome, followed by everything known of it when CLAIMED.

if #ARGV - 3 > BATCH_MAX * 2 then
    return redis.error_reply('ERR too many ids')
end
local node, incarnation = ARGV[2], ARGV[3]
check()
local size = redis.call('LLEN', bind_key(node))

local me = member(node, incarnation)
if not me or beat_of(node) ~= incarnation then
    return { 'FENCED' }
end
if me.state ~= 'live' then
    return { 'REFUSED' }
end

local changed = false

-- Somebody wrote a text by hand into `no` over an owned id: its next version.
local function take_written(id, written, used, identity, owner)
    redis.call('HDEL', NO, id)
    redis.call('ZREM', RETRY, id)
    if written == used then
        return
    end
    owner.version = meta_of(id).version + 1
    set_meta(id, owner.version, identity)
    redis.call('HSET', USE, id, written)
    set_owner(id, owner)
    bump(owner.node)
    wake(owner.node)
end

local function claim(id, identity)
    local waiting = redis.call('HGET', NO, id)
    local used = redis.call('HGET', USE, id)
    local owner = used and owner_of(id)
    if waiting and not_before(id) > NOW_MS then
        return { 'LATER' }
    end
    if owner then
        if waiting and identity_holder(identity, id) then
            return { 'IDENTITY' }
        end
        if waiting then
            take_written(id, waiting, used, identity, owner)
        end
        if not owned_by(owner, node, incarnation) then
            return { 'GONE' }
        end
        return { 'CLAIMED', describe(id, waiting or used, owner) }
    end
    if not waiting then
        return { 'GONE' }
    end
    if size >= me.size then
        return { 'FULL' }
    end
    local meta = meta_of(id)
    if meta.identity ~= '' then
        identity = meta.identity
    end
    if identity_holder(identity, id) then
        return { 'IDENTITY' }
    end
    if meta.identity == '' or not holds_identities(id, identity) then
        set_meta(id, meta.version, identity)
    end
    owner = to_owned(id, waiting, {
        node = node,
        incarnation = incarnation,
        epoch = next_epoch(0),
        version = meta.version,
        since = NOW_MS,
    })
    size = size + 1
    changed = true
    return { 'CLAIMED', describe(id, waiting, owner) }
end

local results = {}
for i = 4, #ARGV, 2 do
    results[#results + 1] = claim(ARGV[i], ARGV[i + 1])
end
if changed then
    keep_epoch()
    resize(node)
    bump(node)
end
return { 'OK', rev_of(node), results }
