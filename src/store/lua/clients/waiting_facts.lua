-- waiting_facts: one step of a scan over the waiting ids, with only what selects clients; changes
-- nothing. ARGV[2...]: cursor, with configurations, with versions ('1' or '0').
-- Answers: 'OK', next cursor, the fields of each as get has them, a configuration or version that is
-- not wanted as '' or 0; without failed attempts, only the first three.

local with_configs, with_versions = ARGV[3] == '1', ARGV[4] == '1'
local scan = redis.call('HSCAN', NO, ARGV[2], 'COUNT', BATCH_MAX)
local found = scan[2]
local ids, rows = {}, {}
for i = 1, #found, 2 do
    ids[#ids + 1] = found[i]
end
if #ids == 0 then
    return { 'OK', scan[1], rows }
end
local attempts = redis.call('HMGET', ATTEMPT, unpack(ids))
for i, id in ipairs(ids) do
    local config = with_configs and found[2 * i] or ''
    rows[i] = attempts[i] and describe(id, config, nil)
        or { id, profile_mark.remove(config), with_versions and meta_of(id).version or 0 }
end
return { 'OK', scan[1], rows }
