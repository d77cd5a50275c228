-- lead: the node becomes or stays leader, or one of two standbys. ARGV[2...]: node, incarnation,
-- ttl_ms (0: resigns), why clients wait as counted by the leader (JSON, '': unknown).
-- Refused: the node is not registered under this incarnation, or has no heartbeat.
-- Answers: 'OK', 2 (leader), 1 (standby) or 0.

local STANDBYS_MAX = 2

local node, incarnation, ttl_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])
local ok, leader = pcall(cjson.decode, redis.pcall('GET', LEADER))
local held = ok and type(leader) == 'table' and type(leader.node) == 'string'
local leads = held and leader.node == node and leader.incarnation == incarnation

local standby = of_type(STANDBY, 'zset')
redis.call('ZREMRANGEBYSCORE', standby, '-inf', NOW_MS)
redis.call('ZREMRANGEBYSCORE', standby, '(' .. (NOW_MS + 60000), '+inf') -- the clock went back

if ttl_ms == 0 or not member(node, incarnation) or heartbeat_of(node) ~= incarnation then
    if leads then
        redis.call('DEL', LEADER)
        append_event('leader', '', 'none', 'no leader')
    end
    redis.call('ZREM', standby, node)
    return { 'OK', 0 }
end
if not held or leads or redis.call('PTTL', LEADER) > ttl_ms + CLOCK_SLACK_MS then
    redis.call('SET', LEADER, cjson.encode({ node = node, incarnation = incarnation }), 'PX', ttl_ms)
    redis.call('ZREM', standby, node)
    if not leads then
        append_event('leader', node, 'leading', 'elected')
    end
    if ARGV[5] ~= '' then
        redis.call('SET', UNPLACED, ARGV[5], 'PX', 5000)
    end
    return { 'OK', 2 }
end
if redis.call('ZSCORE', standby, node) or redis.call('ZCARD', standby) < STANDBYS_MAX then
    redis.call('ZADD', standby, NOW_MS + ttl_ms, node)
    return { 'OK', 1 }
end
return { 'OK', 0 }
