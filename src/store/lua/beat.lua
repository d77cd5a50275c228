-- beat: the node lives for another heartbeat_ttl_ms. ARGV[2...]: node, incarnation, generation,
-- heartbeat_ttl_ms.
-- Refused: the generation is another, Redis lost its data ('STATE'); the node is dead, unknown, or
-- another incarnation has its name ('FENCED').
-- Answers: 'OK', rev, Redis time in ms, draining, alone (no other registered node beats).

local node, incarnation = ARGV[2], ARGV[3]
local OTHERS_MAX = 64

local function alone()
    local entries = redis.call('HSCAN', REGISTER, 0, 'COUNT', OTHERS_MAX)[2]
    for i = 1, math.min(#entries, OTHERS_MAX * 2), 2 do
        if entries[i] ~= node and beat_of(entries[i]) then
            return 0
        end
    end
    return 1
end

if redis.pcall('GET', GENERATION) ~= ARGV[4] then
    return { 'STATE' }
end
local me = member(node, incarnation)
local beat = beat_of(node)
if not me or (beat and beat ~= incarnation) then
    return { 'FENCED' }
end
local rev = rev_of(node)
redis.call('SET', beat_key(node), incarnation, 'PX', ARGV[5])
return { 'OK', rev, NOW_MS, me.state == 'draining' and 1 or 0, alone() }
