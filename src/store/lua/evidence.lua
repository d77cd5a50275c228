-- evidence: what the store says of clients that a node runs; changes nothing. ARGV[2...]: node,
-- incarnation, then id, epoch of each.
-- Answers: 'OK', and per id 'NONE' 'MINE' 'NEWER' 'OLDER' 'WAITING' 'TOMBSTONE'.

if #ARGV - 3 > BATCH_MAX * 2 then
    return redis.error_reply('ERR too many ids')
end

local function evidence(id, epoch)
    local owner = redis.call('HEXISTS', USE, id) == 1 and owner_of(id)
    if owner and owner.epoch == epoch and owned_by(owner, ARGV[2], ARGV[3]) then
        return 'MINE'
    end
    if owner then
        return owner.epoch >= epoch and 'NEWER' or 'OLDER'
    end
    if redis.call('HEXISTS', NO, id) == 1 then
        return 'WAITING'
    end
    return buried(id) and 'TOMBSTONE' or 'NONE'
end

local results = {}
for i = 4, #ARGV, 2 do
    results[#results + 1] = evidence(ARGV[i], tonumber(ARGV[i + 1]))
end
return { 'OK', results }
