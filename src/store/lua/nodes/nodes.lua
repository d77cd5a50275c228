-- nodes: one step of a scan over the register; changes nothing. ARGV[2...]: cursor, name (only that
-- node; '': any), port (only nodes that announce it; 0: any).
-- Answers: 'OK', next cursor, the leader's name or false, and the fields of each node.

local function leader_name()
    local ok, leader = pcall(cjson.decode, redis.pcall('GET', LEADER))
    return ok and type(leader) == 'table' and text_or(leader.node, false)
end

local function step()
    if ARGV[3] == '' then
        return redis.call('HSCAN', REGISTER, ARGV[2], 'COUNT', BATCH_MAX)
    end
    local entry = redis.call('HGET', REGISTER, ARGV[3])
    return { '0', entry and { ARGV[3], entry } or {} }
end

local function row(name)
    local node = node_of(name)
    local heartbeat = heartbeat_of(node.name)
    return {
        node.name, node.host, node.port, node.type, node.size, node.incarnation, node.state,
        node.version, node.started,
        to_integer(redis.pcall('LLEN', bind_key(node.name))) or 0,
        (heartbeat == node.incarnation and has_heartbeat(node.name, node)) and 1 or 0,
        redis.call('PTTL', heartbeat_key(node.name)),
        text_or(redis.pcall('GET', facts_key(node.name)), false),
    }
end

local scan, rows = step(), {}
for i = 1, #scan[2], 2 do
    if ARGV[4] == '0' or scan[2][i + 1]:match('"port"%s*:%s*(%d+)') == ARGV[4] then
        rows[#rows + 1] = row(scan[2][i])
    end
end
return { 'OK', scan[1], leader_name(), rows }
