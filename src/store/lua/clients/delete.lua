-- delete: waiting or owned -> gone, with a tombstone. ARGV[2...]: id, expected version (0: any),
-- record for the audit trail ('': none), how long the trail is kept in ms.
-- Refused: no such id; another version.
-- Answers: 'OK' | 'NOT_FOUND' | 'GONE' (absent, with a tombstone) | 'VERSION'.

check()
local status = delete_configuration(ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]))
finish_configurations()
if status == 'OK' then
    -- Each delete removes a few old tombstones, an hour late because the clock may have jumped.
    local long_ago = NOW_MS - TOMBSTONE_MS
    for _, old in ipairs(redis.call('ZRANGEBYSCORE', TOMBSTONES, '-inf', long_ago, 'LIMIT', 0, 10)) do
        remove_tombstone(old)
    end
end
return { status }
