-- join: registers a node with its first heartbeat. ARGV[2...]: name, incarnation, host, port, type,
-- size, version, started_ms, heartbeat_ttl_ms, draining (1 or 0), generation to use if there is
-- none, again (1: this incarnation was registered and Redis has lost it; 0), facts as in heartbeat
-- ('': none).
-- The clients of an earlier incarnation start to wait first, a batch per call.
-- Refused: another incarnation has a heartbeat under that name ('EXISTS'); this one was declared
-- dead ('FENCED').
-- Answers: 'OK', generation ('': more is left, call again) | 'EXISTS' | 'FENCED'.

local name, incarnation = ARGV[2], ARGV[3]
check()
redis.call('LLEN', bind_key(name))
local generation = redis.pcall('GET', GENERATION)

local earlier = node_of(name)
if heartbeat_of(name) ~= incarnation and has_heartbeat(name, earlier) then
    return { 'EXISTS' }
end
local registered = earlier and earlier.incarnation == incarnation
if is_fenced(incarnation) or (registered and earlier.state == 'dead') then
    return { 'FENCED' }
end
if not registered then
    if earlier and earlier.state ~= 'dead' then
        earlier.state = 'dead'
        set_node(earlier)
        remember_fenced(earlier.incarnation)
        remember_vanished(name)
    end
    take_ids_from(name)
    if redis.call('LLEN', bind_key(name)) > 0 then
        return { 'OK', '' }
    end
    redis.call('DEL', set_key(name), changed_key(name))
end

local state = registered and earlier.state or 'live'
local drained = redis.call('HEXISTS', of_type(LEVELLING.DRAINED, 'hash'), name) == 1
if (drained or ARGV[11] == '1') and state == 'live' then
    state = 'draining'
    redis.call('HSET', LEVELLING.DRAINED, name, NOW_MS)
end
set_node({
    name = name,
    host = ARGV[4],
    port = tonumber(ARGV[5]),
    type = ARGV[6],
    size = tonumber(ARGV[7]),
    incarnation = incarnation,
    state = state,
    version = ARGV[8],
    ttl = tonumber(ARGV[10]),
    started = tonumber(ARGV[9]),
})
redis.call('SET', heartbeat_key(name), incarnation, 'PX', ARGV[10])
if ARGV[14] ~= '' then
    redis.call('SET', facts_key(name), ARGV[14], 'PX', ARGV[10])
end
if type(generation) ~= 'string' then
    generation = ARGV[12]
    redis.call('SET', GENERATION, generation)
end
if ARGV[13] == '1' and not restoring() then
    restore_for(RESTORING_MS)
end
request_full_comparison(name)
wake()
if not registered then
    append_event('node', name, state, earlier and 'joined again with a new incarnation' or 'joined')
end
return { 'OK', generation }
