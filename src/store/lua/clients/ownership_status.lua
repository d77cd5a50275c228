-- ownership_status: compares clients that a node runs with Redis. ARGV[2...]: node, incarnation,
-- then id, epoch, version of each. Puts the node's own ids back onto its list if somebody removed
-- them by hand.
-- Answers: 'OK', and per id a word of ownership_status() in common/ownership.lua.

if #ARGV - 3 > BATCH_MAX * 3 then
    return redis.error_reply('ERR too many ids')
end
check()
local node, incarnation = ARGV[2], ARGV[3]

local function rebind(ids)
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
        request_full_comparison(node)
    end
end

local results, own = {}, {}
for i = 4, #ARGV, 3 do
    local id, epoch, version = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local found, owner = ownership_status(id, node, incarnation, epoch, version)
    results[#results + 1] = found
    own[#own + 1] = owned_by(owner, node, incarnation) and id or nil
end
if #own > 0 then
    rebind(own)
end
return { 'OK', results }
