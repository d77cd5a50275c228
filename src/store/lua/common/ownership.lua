-- Compares the clients that a node runs with Redis.

-- Version 0.1 counts a client's versions from 1. If Redis has such a count and the node runs a
-- greater version, the client was deleted and created again, unless Redis has just lost data.
local COUNTED_MAX = 1000000000000
local function created_again(known, version)
    return known < COUNTED_MAX and known < version and not restoring()
end

-- 'MINE'; 'STALE': its own, with a newer version in Redis; 'NEWER': another node owns it;
-- 'WAITING': it was released; 'TOMBSTONE': it was deleted; 'OLDER' and 'NONE': Redis lacks clients
-- that the node has; see restore.
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
    local again = meta.known and created_again(meta.version, version)
    if owner then
        local newer = again or (owner.epoch >= epoch and meta.version >= version)
        return newer and 'NEWER' or 'OLDER', owner
    end
    if redis.call('HEXISTS', NO, id) == 1 then
        local newer = again or (meta.epoch >= epoch and meta.version >= version)
        return newer and 'WAITING' or 'OLDER'
    end
    local tombstone = tombstone_of(id)
    if tombstone and tombstone.version >= version and tombstone.epoch >= epoch then
        return 'TOMBSTONE'
    end
    return 'NONE'
end

