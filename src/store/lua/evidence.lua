-- evidence: what the store says of clients that a node runs. ARGV[2...]: node, incarnation, then
-- id, epoch of each. What is the node's own goes back onto its list if somebody took it off by hand.
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

local function rebind(node, ids)
    local listed, changed = {}, false
    for _, id in ipairs(redis.call('LRANGE', bind_key(node), 0, -1)) do
        listed[id] = true
    end
    for _, id in ipairs(ids) do
        if not listed[id] then
            redis.call('RPUSH', bind_key(node), id)
            changed = true
        end
    end
    if changed then
        resize(node)
        bump(node)
    end
end

local results, mine = {}, {}
for i = 4, #ARGV, 2 do
    local found = evidence(ARGV[i], tonumber(ARGV[i + 1]))
    results[#results + 1] = found
    mine[#mine + 1] = found == 'MINE' and ARGV[i] or nil
end
if #mine > 0 then
    rebind(ARGV[2], mine)
end
return { 'OK', results }
