-- update: a new version in place, waiting or owned. ARGV[2...]: id, expected version (0: any),
-- config, identity. The same configuration under the version that it would replace changes nothing.
-- Refused: no such id; another version; the identity belongs to another id.
-- Answers: 'OK', version | 'NOT_FOUND' | 'VERSION' | 'EXISTS', the other id.

local id, expected, config, identity = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
check()

local waiting = redis.call('HGET', NO, id)
local used = redis.call('HGET', USE, id)
local current = waiting or used
if not current then
    return { 'NOT_FOUND' }
end
local meta = meta_of(id)
local version = meta.version
if current == config and (expected == 0 or expected == version or expected == meta.was) then
    return { 'OK', version }
end
if expected ~= 0 and expected ~= version then
    return { 'VERSION' }
end
local other_id = identity_owner(identity, id)
if other_id then
    return { 'EXISTS', other_id }
end

version = version_after(version)
renew_meta(id, meta, version, identity)
redis.call('ZREM', RETRY, id)
local owner = used and owner_of(id)
if owner then
    redis.call('HSET', USE, id, config)
    redis.call('HDEL', NO, id)
    update_owner(id, owner, { version = version })
    commit_changes()
else
    redis.call('HSET', NO, id, config)
    redis.call('HDEL', USE, id)
    redis.call('HDEL', ATTEMPT, id)
    wake()
end
return { 'OK', version }
