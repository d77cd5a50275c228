-- get_many: everything known of several ids; changes nothing. ARGV[2...]: up to 200 ids.
-- Answers: 'OK', the fields of each id that exists.

local rows = {}
for i = 2, math.min(#ARGV, BATCH_MAX + 1) do
    local id = ARGV[i]
    local used = redis.call('HGET', USE, id)
    local owner = used and owner_of(id)
    local config = owner and used or redis.call('HGET', NO, id) or used
    if config then
        rows[#rows + 1] = describe(id, config, owner or nil)
    end
end
return { 'OK', rows }
