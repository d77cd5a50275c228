-- waiting_facts: one step of a scan over the waiting ids, with only what selects clients; changes
-- nothing. ARGV[2...]: cursor, with configurations ('1' or '0').
-- Answers: 'OK', next cursor, the fields of each as get has them; without failed attempts, only the
-- first three.

local scan = redis.call('HSCAN', NO, ARGV[2], 'COUNT', BATCH_MAX)
local ids, configs = {}, {}
for i = 1, #scan[2], 2 do
    ids[#ids + 1], configs[#configs + 1] = scan[2][i], ARGV[3] == '1' and scan[2][i + 1] or ''
end
if #ids == 0 then
    return { 'OK', scan[1], {} }
end
local attempts = redis.call('HMGET', ATTEMPT, unpack(ids))
local rows = {}
for i, id in ipairs(ids) do
    rows[i] = attempts[i] and describe(id, configs[i], nil) or { id, configs[i], meta_of(id).version }
end
return { 'OK', scan[1], rows }
