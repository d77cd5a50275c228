-- get: everything known of one id; changes nothing. ARGV[2]: id.
-- Answers: 'OK', the fields (with a node if it is owned), its history | 'NOT_FOUND'.

local id = ARGV[2]
local used = redis.call('HGET', USE, id)
local owner = used and owner_of(id)
if owner then
    return { 'OK', describe(id, used, owner), history_of(id) }
end
local config = redis.call('HGET', NO, id) or used
if config then
    return { 'OK', describe(id, config, nil), history_of(id) }
end
return { 'NOT_FOUND' }
