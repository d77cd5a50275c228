-- count_quotas: one step of comparing the clients with what counts for quotas. ARGV[2...]: which hash:
-- 'no' or 'use' (clients that may not be counted yet) or 'counted' (that may be gone); the cursor.
-- Answers: 'OK', the next cursor ('0': the hash is done).

local hash = ({ no = NO, use = USE, counted = quotas.counted_key })[ARGV[2]]
if redis.call('EXISTS', quotas.key) == 0 and redis.call('EXISTS', quotas.counted_key) == 0 then
    return { 'OK', '0' }
end
local scan = redis.call('HSCAN', hash, ARGV[3], 'COUNT', BATCH_MAX / 2)
for i = 1, #scan[2], 2 do
    local id, config = scan[2][i], scan[2][i + 1]
    if hash == quotas.counted_key then
        config = redis.call('HGET', NO, id) or redis.call('HGET', USE, id) or nil
    end
    quotas.count(id, config and quotas.of(config))
end
return { 'OK', scan[1] }
