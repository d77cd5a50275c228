-- nodes: one step of a scan over the register; changes nothing. ARGV[2]: cursor.
-- Answers: 'OK', next cursor, leader's name or false, and the fields of each node.

local function leader_name()
    local ok, leader = pcall(cjson.decode, redis.pcall('GET', LEADER))
    return ok and type(leader) == 'table' and text_or(leader.node, false)
end

local scan = redis.call('HSCAN', REGISTER, ARGV[2], 'COUNT', BATCH_MAX)
local rows = {}
for i = 1, #scan[2], 2 do
    local node = node_of(scan[2][i])
    local beat = beat_of(node.name)
    rows[#rows + 1] = {
        node.name, node.host, node.port, node.type, node.size, node.incarnation, node.state,
        node.version, node.started,
        whole(redis.pcall('LLEN', bind_key(node.name))) or 0,
        (beat == node.incarnation and beats(node.name, node)) and 1 or 0,
        redis.call('PTTL', beat_key(node.name)),
        text_or(redis.pcall('GET', facts_key(node.name)), false),
    }
end
return { 'OK', scan[1], leader_name(), rows }
