-- restore: restores the clients that a node runs, after Redis has lost data. ARGV[2...]: node,
-- incarnation, then id, epoch, version, identity, config of each. Refused: the node is not
-- registered under this incarnation ('FENCED'); per id: a tombstone, an owner or a release that is
-- not older; a configuration written by hand; another id has its identity (then it waits, so that
-- it is not lost). A newer configuration is kept, regardless of the owner of the id. Answers: 'OK',
-- and per id 'MINE' or 'REFUSED', epoch, version | 'FENCED'.

if #ARGV - 3 > BATCH_MAX * 5 then
    return redis.error_reply('ERR too many ids')
end
local node, incarnation = ARGV[2], ARGV[3]
check()
redis.call('LLEN', bind_key(node))
if not member(node, incarnation) then
    return { 'FENCED' }
end

local RESTORE_MS = 1000
local REFUSED = { 'REFUSED', 0, 0 }
local raised = false

local function epoch_after(epoch)
    raised = true
    return next_epoch(epoch + 1)
end

local function mine(owner)
    return { 'MINE', string.format('%.0f', owner.epoch), owner.version }
end

-- The client of this id in `hash` gets the node's newer configuration, unless another id has its
-- identity.
local function take_config(hash, id, owner, meta, item)
    if identity_owner(item.identity, id) then
        return false
    end
    meta.was, meta.version, meta.identity = meta.version, item.version, item.identity
    set_meta(id, meta)
    redis.call('HSET', hash, id, item.config)
    if owner then
        update_owner(id, owner, { version = item.version })
    end
    return true
end

-- The node must use the configuration in Redis instead of its own, so it gets the newer version.
local function keep_config(id, owner, meta, item)
    renew_meta(id, meta, version_after(item.version), meta.identity)
    update_owner(id, owner, { version = meta.version })
end

local function take_over(id, owner, waiting, meta, item)
    local text = { config = item.config, version = item.version, identity = item.identity }
    local present = waiting or redis.call('HGET', USE, id)
    if present and meta.version >= item.version then
        text = { config = present, version = meta.version, identity = meta.identity }
    end
    if identity_owner(text.identity, id) then
        if not present then
            redis.call('HSET', NO, id, text.config)
            set_meta(id, { version = text.version, was = 0, epoch = item.epoch, identity = '' })
            wake()
        end
        return REFUSED
    end
    if owner then
        note_lost(id, owner)
        unbind(owner.node, { id })
    end
    unbind(node, { id }) -- it may be on this node's list whatever the record says
    meta.version, meta.identity = text.version, text.identity
    set_meta(id, meta)
    return mine(to_owned(id, text.config, {
        node = node,
        incarnation = incarnation,
        epoch = epoch_after(math.max(item.epoch, meta.epoch)),
        version = text.version,
        since = NOW_MS,
    }))
end

local function restore(id, item)
    local word, owner = ownership_status(id, node, incarnation, item.epoch, item.version)
    if word == 'MINE' or word == 'STALE' then
        return mine(owner)
    end
    if word ~= 'OLDER' and word ~= 'NONE' then
        return REFUSED
    end
    local waiting = redis.call('HGET', NO, id)
    local meta = meta_of(id)
    local newer = item.version > meta.version
    if owned_by(owner, node, incarnation) then
        if newer and not take_config(USE, id, owner, meta, item) then
            keep_config(id, owner, meta, item)
        end
        if item.epoch > owner.epoch then
            update_owner(id, owner, { epoch = epoch_after(item.epoch) })
        end
        return mine(owner)
    end
    local by_hand = waiting and waiting ~= item.config and (not meta.known or meta.version == item.version)
    if by_hand then
        return REFUSED
    end
    if (owner and owner.epoch >= item.epoch) or (not owner and waiting and meta.epoch >= item.epoch) then
        -- The version is newer, otherwise the status would not be OLDER.
        take_config(owner and USE or NO, id, owner, meta, item)
        return REFUSED
    end
    return take_over(id, owner, waiting, meta, item)
end

for i = 4, #ARGV, 5 do
    local owner = owner_of(ARGV[i])
    if owner then
        redis.call('LLEN', bind_key(owner.node)) -- of a wrong type: fails here, before any write
    end
end
local results = {}
for i = 4, #ARGV, 5 do
    results[#results + 1] = restore(ARGV[i], {
        epoch = tonumber(ARGV[i + 1]),
        version = tonumber(ARGV[i + 2]),
        identity = ARGV[i + 3],
        config = profile_mark.add(ARGV[i + 4]),
    })
end
if raised then
    write_epoch()
    -- Nothing is assigned while any node restores clients.
    if restoring() and redis.call('PTTL', RESTORING) < RESTORE_MS then
        restore_for(RESTORE_MS)
    end
end
commit_changes()
return { 'OK', results }
