-- delete: waiting or owned -> gone, with a tombstone. ARGV[2...]: id, expected version (0: any).
-- Refused: no such id; another version.
-- Answers: 'OK' | 'NOT_FOUND' | 'GONE' (absent, with a tombstone) | 'VERSION'.

local id, expected = ARGV[2], tonumber(ARGV[3])
check()

local used = redis.call('HEXISTS', USE, id) == 1
if not used and redis.call('HEXISTS', NO, id) == 0 then
    return { tombstone_of(id) and 'GONE' or 'NOT_FOUND' }
end
local meta = meta_of(id)
if expected ~= 0 and expected ~= meta.version then
    return { 'VERSION' }
end
local owner = used and owner_of(id)
if owner then
    redis.call('LLEN', bind_key(owner.node)) -- of a wrong type: fails here
end

local time_ms = NOW_MS + TOMBSTONE_MS
redis.call('ZADD', TOMBSTONES, time_ms, id)
-- Covers every earlier assignment and configuration, also one that Redis has lost.
local epoch = math.max(meta.epoch, owner and owner.epoch or 0, NOW_US)
local version = math.max(meta.version, NOW_MS)
redis.call('HSET', BURIED, id, string.format('%.0f %.0f %.0f', time_ms, version, epoch))
remove_identity(id)
for _, hash in ipairs({ NO, USE, OWNER, META, ATTEMPT }) do
    redis.call('HDEL', hash, id)
end
redis.call('ZREM', RETRY, id)
if owner then
    note_lost(id, owner)
    unbind(owner.node, { id })
    commit_changes()
end
-- Each delete removes a few old tombstones, an hour late because the clock may have jumped.
local long_ago = NOW_MS - TOMBSTONE_MS
for _, old in ipairs(redis.call('ZRANGEBYSCORE', TOMBSTONES, '-inf', long_ago, 'LIMIT', 0, 10)) do
    remove_tombstone(old)
end
return { 'OK' }
