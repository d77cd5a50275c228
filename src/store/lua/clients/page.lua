-- page: one step of a scan over the waiting or the owned ids; changes nothing. ARGV[2...]: 'no' or
-- 'use', cursor, approximate count.
-- Answers: 'OK', Redis time in ms, next cursor, the fields of each.

local hash = ARGV[2] == 'use' and USE or NO
local scan = redis.call('HSCAN', hash, ARGV[3], 'COUNT', math.min(tonumber(ARGV[4]), BATCH_MAX))
local rows = {}
for i = 1, #scan[2], 2 do
    local id, config = scan[2][i], scan[2][i + 1]
    rows[#rows + 1] = describe(id, config, hash == USE and owner_of(id) or nil)
end
return { 'OK', NOW_MS, scan[1], rows }
