-- lead: the node becomes or stays leader. ARGV[2...]: node, incarnation, ttl_ms (0: gives it up).
-- Refused: another leads, by a key that lives no longer than that; the node is not registered under this incarnation, or does not beat.
-- Answers: 'OK', leading (1 or 0).

local node, incarnation, ttl_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])

local text = redis.pcall('GET', LEADER)
local ok, leader = pcall(cjson.decode, text)
local held = ok and type(leader) == 'table' and type(leader.node) == 'string'
local mine = held and leader.node == node and leader.incarnation == incarnation
if ttl_ms == 0 then
    if mine then
        redis.call('DEL', LEADER)
    end
    return { 'OK', 0 }
end
if held and not mine and redis.call('PTTL', LEADER) <= ttl_ms + CLOCK_SLACK_MS then
    return { 'OK', 0 }
end
if not member(node, incarnation) or beat_of(node) ~= incarnation then
    return { 'OK', 0 }
end
redis.call('SET', LEADER, cjson.encode({ node = node, incarnation = incarnation }), 'PX', ttl_ms)
return { 'OK', 1 }
