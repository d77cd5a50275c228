-- heartbeat: renews the heartbeat of the node for heartbeat_ttl_ms. ARGV[2...]: node, incarnation,
-- generation, heartbeat_ttl_ms, facts (JSON that the leader needs).
-- Refused: the node was declared dead, or reaped by a leader of version 0.1 ('FENCED'); the
-- generation or this incarnation is unknown, so Redis lost data ('STATE').
-- Answers: 'OK', rev, Redis time in ms, draining, wanted (a leader or a standby is lacking),
-- registered nodes, waiting, delayed, owned, why clients wait (JSON) or false, revision of the
-- resources of the fleet, clients per second that an operator asked to move (0: none), nodes restore
-- their clients (1 or 0).

local ROLE_MS_MAX = 60000 -- a longer one was written before the clock went back

local node, incarnation = ARGV[2], ARGV[3]
local registered = node_of(node)
local me = member(node, incarnation)
if is_fenced(incarnation) or (registered and registered.incarnation == incarnation and not me) then
    return { 'FENCED' }
end
local heartbeat = heartbeat_of(node)
if redis.pcall('GET', GENERATION) ~= ARGV[4] then
    return { 'STATE' }
end
-- Version 0.1 does not record the nodes that it declared dead. When it removes one, keys that it
-- does not know remain.
local removed = not registered and redis.call('EXISTS', rev_key(node)) == 0
if removed and redis.call('EXISTS', set_key(node)) == 1 then
    return { 'FENCED' }
end
if not me or (heartbeat and heartbeat ~= incarnation) then
    return { 'STATE' }
end

redis.call('SET', heartbeat_key(node), incarnation, 'PX', ARGV[5])
redis.call('SET', facts_key(node), ARGV[6], 'PX', ARGV[5])
local standbys = redis.pcall('ZCOUNT', STANDBY, NOW_MS, NOW_MS + ROLE_MS_MAX)
local leads_ms = redis.call('PTTL', LEADER)
local wanted = leads_ms < 0 or leads_ms > ROLE_MS_MAX or type(standbys) ~= 'number' or standbys < 2
return {
    'OK', rev_of(node), NOW_MS, me.state == 'draining' and 1 or 0, wanted and 1 or 0,
    redis.call('HLEN', REGISTER), redis.call('HLEN', NO), count_delayed(), redis.call('HLEN', USE),
    text_or(redis.pcall('GET', UNPLACED), false), resources.revision(),
    to_integer(redis.pcall('GET', LEVELLING.REBALANCE)) or 0, restoring() and 1 or 0,
}
