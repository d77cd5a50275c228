-- delete: waiting or owned -> gone, with a tombstone. ARGV[2...]: id, expected version (0: any).
-- Refused: no such id; another version.
-- Answers: 'OK' | 'NOT_FOUND' | 'GONE' (not there, and there is a tombstone) | 'VERSION'.

local id, expected = ARGV[2], tonumber(ARGV[3])
check()

local used = redis.call('HEXISTS', USE, id) == 1
if not used and redis.call('HEXISTS', NO, id) == 0 then
    return { buried(id) and 'GONE' or 'NOT_FOUND' }
end
if expected ~= 0 and expected ~= meta_of(id).version then
    return { 'VERSION' }
end
local owner = used and owner_of(id)
if owner then
    redis.call('LLEN', bind_key(owner.node)) -- of a wrong type: fails here
end

redis.call('ZADD', TOMBSTONES, NOW_MS + TOMBSTONE_MS, id)
forget_identity(id)
for _, hash in ipairs({ NO, USE, OWNER, META, ATTEMPT }) do
    redis.call('HDEL', hash, id)
end
redis.call('ZREM', RETRY, id)
if owner then
    unbind(owner.node, { id })
    resize(owner.node)
    bump(owner.node)
    wake(owner.node)
end
-- A few old tombstones go with each new one, an hour late: the clock may have jumped.
local long_ago = NOW_MS - TOMBSTONE_MS
for _, old in ipairs(redis.call('ZRANGEBYSCORE', TOMBSTONES, '-inf', long_ago, 'LIMIT', 0, 10)) do
    redis.call('ZREM', TOMBSTONES, old)
end
return { 'OK' }
