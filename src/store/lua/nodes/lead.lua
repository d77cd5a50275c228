-- lead: the node becomes or stays leader, or one of two standbys. ARGV[2...]: node, incarnation,
-- ttl_ms (0: resigns), why clients wait as counted by the leader (JSON, '': unknown).
-- Refused: the node is not registered under this incarnation, or has no heartbeat.
-- Answers: 'OK', 2 (leader), 1 (standby) or 0.

local STANDBYS_MAX = 2

-- Nodes that have left, were declared dead or do not confirm it any more no longer have the incident.
-- Their clients are counted by others that have it. Returns the last such node, or nil, and whether
-- anything has changed.
local function drop_from_incident(incident, entries)
    local dropped, changed = {}, false
    for name, one in pairs(incident.nodes) do
        entries[name] = entries[name] or node_of(name) or {}
        local entry = entries[name]
        local registered = entry.incarnation == one.incarnation and entry.state ~= 'dead'
        if one.at > NOW_MS then -- the clock went back
            one.at, changed = NOW_MS, true
        end
        if one.open and (not registered or NOW_MS - one.at > incidents.CONFIRMED_MS) then
            one.open = false
            dropped[#dropped + 1] = name
        end
    end
    for _, name in ipairs(incidents.is_open(incident) and dropped or {}) do
        incident.nodes[name].clients, incident.nodes[name].waiting = 0, 0
    end
    return dropped[#dropped], changed or #dropped > 0
end

local function check_incidents()
    local checked = to_integer(redis.pcall('GET', incidents.CHECKED))
    local recently = checked and checked <= NOW_MS and NOW_MS - checked < incidents.CHECK_MS
    if redis.call('HLEN', of_type(incidents.KEY, 'hash')) == 0 or recently then
        return
    end
    redis.call('SET', incidents.CHECKED, NOW_MS, 'PX', incidents.CHECK_MS)
    local all = redis.call('HGETALL', incidents.KEY)
    local texts, ids, entries = {}, {}, {}
    for i = 1, #all, 2 do
        local broker, incident = all[i], incidents.read(all[i + 1])
        local last, changed = drop_from_incident(incident, entries)
        if incidents.is_open(incident) and changed then
            incidents.write(broker, incident)
        elseif not incidents.is_open(incident) then
            texts[#texts + 1] = incidents.finish(broker, incident, { node = last or '', reason = 'unconfirmed' })
            ids[#ids + 1] = '"' .. EVENTS.add(texts[#texts]) .. '"'
        end
    end
    if #texts > 0 and redis.call('EXISTS', EVENTS.LISTENING) == 1 then
        pcall(EVENTS.publish, '', 0, 0, texts, ids) -- without the right to publish, it leads as well
    end
end

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
    check_incidents()
    return { 'OK', 2 }
end
if redis.call('ZSCORE', standby, node) or redis.call('ZCARD', standby) < STANDBYS_MAX then
    redis.call('ZADD', standby, NOW_MS + ttl_ms, node)
    return { 'OK', 1 }
end
return { 'OK', 0 }
