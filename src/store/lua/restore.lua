-- restore: a client that runs is put back after Redis lost its data, with a new epoch.
-- ARGV[2...]: node, incarnation, id, epoch, config, identity, version.
-- Refused: the node is not registered under this incarnation ('FENCED'); a tombstone; an owner with
-- this epoch or a newer one; it waits with another text; another id has its identity by now (then
-- it waits, for it must not be lost) ('REFUSED').
-- Answers: 'OK', epoch | 'FENCED' | 'REFUSED'.

local node, incarnation, id, epoch = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local config, identity, version = ARGV[6], ARGV[7], tonumber(ARGV[8])
check()
redis.call('LLEN', bind_key(node))
if not member(node, incarnation) then
    return { 'FENCED' }
end

local waiting = redis.call('HGET', NO, id)
local used = redis.call('HGET', USE, id)
local owner = used and owner_of(id)
if owned_by(owner, node, incarnation) then
    return { 'OK', owner.epoch }
end
if buried(id) or (owner and owner.epoch >= epoch) or (waiting and waiting ~= config) then
    return { 'REFUSED' }
end
if owner then
    redis.call('LLEN', bind_key(owner.node)) -- of a wrong type: fails here
end

-- What Redis has may be the newer version all the same.
local meta = meta_of(id)
if used and meta.version > version then
    config = used
end
if meta.identity ~= '' and (waiting or meta.version > version) then
    identity = meta.identity
end
version = math.max(version, meta.version)

if identity_holder(identity, id) then
    if not waiting and not used then
        redis.call('HSET', NO, id, config)
        set_meta(id, version, '')
        wake('')
    end
    return { 'REFUSED' }
end

if owner then
    unbind(owner.node, { id })
    resize(owner.node)
    bump(owner.node)
    wake(owner.node)
end
if used or redis.call('HEXISTS', OWNER, id) == 1 then
    unbind(node, { id }) -- it may be on our list whatever the record says
end
set_meta(id, version, identity)
owner = to_owned(id, config, {
    node = node,
    incarnation = incarnation,
    epoch = next_epoch(epoch + 1),
    version = version,
    since = NOW_MS,
})
keep_epoch()
resize(node)
bump(node)
return { 'OK', owner.epoch }
